// SPDX-License-Identifier: Apache-2.0

// BROOD_WITHOUT: each way of the kernel's can be taken away, brood goes another, and says so.
#include "spawn/host/without.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class WithoutTest : public LeavesNothing {
 protected:
  static void RunAs(const std::string& without, const Words& arguments, int status,
                    std::string_view told, std::string_view refusal = "") {
    SCOPED_TRACE(without);
    Brood brood(arguments, [&] { setenv(kWithoutVariable, without.c_str(), 1); });
    EXPECT_EQ(brood.Wait(), status) << brood.err();
    EXPECT_THAT(brood.out() + brood.err(), HasSubstr(std::string(told)));
    EXPECT_THAT(brood.err(), HasSubstr(std::string(refusal)));
  }
};

TEST_F(WithoutTest, EveryWayHasAnother) {
  BROOD_NEEDS_ROOT();
  for (const WayName& way : AllWays()) {
    const std::string name(way.name);
    if (way.way == Way::kUring) {
      RunAs(name, {"burst", "-n", "3", "--", "/bin/true"}, 0, "wanted io_uring, used epoll");
    } else if (way.way == Way::kIdmap) {
      // The host's own tree is not mapped, so nothing is missed.
      RunAs(name, {"run", "--json", "--", "/bin/sh", "-c", "exit 7"}, 7, "\"exit_code\": 7");
    } else {
      RunAs(name, {"run", "--json", "--", "/bin/sh", "-c", "exit 7"}, 7, way.used);
    }
  }
}

// Whatever the umask of who makes it.
TEST_F(WithoutTest, DevIsTheSameWhoeverMakesIt) {
  BROOD_NEEDS_ROOT();
  const auto dev = [](const char* without, mode_t mask) {
    Brood brood({"run", "--", "/bin/sh", "-c",
                 "cd /dev && stat -c '%n %a %F %t:%T %N' * && echo x >null && cat brood/etc/hosts"},
                [&] {
                  setenv(kWithoutVariable, without, 1);
                  umask(mask);
                });
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
    return brood.out();
  };
  const std::string made = dev("", 077);
  EXPECT_THAT(made, HasSubstr("null 666 character special file 1:3"));
  EXPECT_THAT(made, HasSubstr("localhost"));
  EXPECT_EQ(made, dev("", 0));
  EXPECT_EQ(made, dev("mknod", 022));
}

TEST_F(WithoutTest, ManyAreNamedWithCommas) {
  RunAs("pidfd_info,exec_time", {"run", "--json", "--", "true"}, 0, "only those of waitid");
  RunAs("all", {"run", "--json", "--", "true"}, 0, "only those of waitid");
}

TEST_F(WithoutTest, WhatIsNoWayIsRefused) {
  RunAs("pidfd_info,uring", {"version"}, 125, "",
        "BROOD_WITHOUT has \"uring\", which brood does not know");
}

}  // namespace
}  // namespace brood
