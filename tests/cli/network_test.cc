// SPDX-License-Identifier: Apache-2.0

// The network namespace of a worker's own, as `brood run` makes it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class NetworkTest : public LeavesNothing {};

TEST_F(NetworkTest, LowPortsAndPingAreForEveryUserInIt) {
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs python3";
  for (const char* user : {"0", "1000"}) {
    Brood brood({"run", "-u", user, "--", "/usr/bin/python3", "-c",
                 "import socket\n"
                 "socket.socket().bind(('127.0.0.1', 80))\n"
                 "for family, to in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'):\n"
                 "  ping = socket.socket(family, socket.SOCK_DGRAM, 1 if '.' in to else 58)\n"
                 "  ping.sendto(bytes([8 if '.' in to else 128, 0, 0, 0, 0, 0, 0, 1]), (to, 0))\n"
                 "  ping.settimeout(60)\n"
                 "  ping.recv(100)\n"});
    EXPECT_EQ(brood.Wait(), 0) << user << brood.err();
  }
}

TEST_F(NetworkTest, ACapabilityOverTheHostsNetworkIsRefusedWithASentence) {
  Brood brood({"run", "--net", "host", "--cap-add", "NET_RAW", "--", "true"});
  EXPECT_EQ(brood.Wait(), 125);
  EXPECT_THAT(brood.err(), HasSubstr("NET_RAW over the host's"));
  EXPECT_THAT(brood.err(), HasSubstr("--no-user"));
  BROOD_NEEDS_ROOT();
  Brood works({"run", "--no-user", "--net", "host", "--cap-add", "NET_RAW", "--", "true"});
  EXPECT_EQ(works.Wait(), 0) << works.err();
}

}  // namespace
}  // namespace brood
