// SPDX-License-Identifier: Apache-2.0

// What commands do when their stdout takes no more.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/program.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class OutputTest : public ::testing::TestWithParam<Words> {};

TEST_P(OutputTest, TellsThatADeviceIsFull) {
  Brood brood(GetParam(), [] { dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), 1); });
  EXPECT_EQ(brood.Wait(), 125);
  EXPECT_THAT(brood.err(), StartsWith("brood: writing to stdout"));
  EXPECT_THAT(brood.err(), HasSubstr("No space left on device"));
}

TEST_P(OutputTest, SaysNothingWhenTheReaderIsGone) {
  for (const bool ignored : {false, true}) {
    Brood brood(GetParam(), [ignored] {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC) != 0) _exit(98);
      dup2(ends[1], 1);
      close(ends[0]);
      if (ignored) (void)signal(SIGPIPE, SIG_IGN);
    });
    EXPECT_EQ(brood.Wait(), ignored ? 128 + SIGPIPE : 1000 + SIGPIPE);
    EXPECT_THAT(brood.err(), IsEmpty());
  }
}

TEST_P(OutputTest, ArrivesInAFile) {
  Brood brood(GetParam());
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_FALSE(brood.out().empty());
}

INSTANTIATE_TEST_SUITE_P(Commands, OutputTest,
                         ::testing::Values(Words{"version"}, Words{"--help"},
                                           Words{"run", "--help"}, Words{"manual", "bash"},
                                           Words{"stress", "--list"}));

}  // namespace
}  // namespace brood
