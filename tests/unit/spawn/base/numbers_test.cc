// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/numbers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>

namespace brood {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;

TEST(NumbersTest, IsTheWholeText) {
  EXPECT_EQ(ParseNumber("0"), 0U);
  EXPECT_EQ(ParseNumber("18446744073709551615"), 18446744073709551615U);
  for (const std::string_view text : {"", " 1", "1 ", "-1", "+1", "1x", "18446744073709551616"}) {
    EXPECT_EQ(ParseNumber(text), std::nullopt) << text;
  }
}

TEST(NumbersTest, IsTheFirstOfSeveral) {
  EXPECT_EQ(FirstNumber("7\n"), 7U);
  EXPECT_EQ(FirstNumber("  8 0 92\n"), 8U);
  EXPECT_EQ(FirstNumber("max\n"), std::nullopt);
  EXPECT_EQ(FirstNumber(""), std::nullopt);
  EXPECT_EQ(FirstNumberOf("/nowhere"), std::nullopt);
}

TEST(NumbersTest, IsBehindAWholeKey) {
  constexpr std::string_view kText = "oom_kill_total 9\noom_kill 3\nbad x\nlast 7";
  EXPECT_EQ(NumberBehind(kText, "oom_kill"), 3U);
  EXPECT_EQ(NumberBehind(kText, "last"), 7U);
  EXPECT_EQ(NumberBehind(kText, "oom"), std::nullopt);
  EXPECT_EQ(NumberBehind(kText, "bad"), std::nullopt);
  EXPECT_EQ(NumberBehind("", "last"), std::nullopt);
  constexpr std::string_view kStatus =
      "Name:\tUid: 5\nUid:\t33\t34\nVmSize:\t     123 kB\nSigBlk:\t0f\n";
  EXPECT_EQ(NumberBehind(kStatus, "Uid:"), 33U);
  EXPECT_EQ(NumberBehind(kStatus, "VmSize:"), 123U);
  EXPECT_EQ(NumberBehind(kStatus, "SigBlk:", 16), 15U);
}

TEST(NumbersTest, AreEntriesOfADirectory) {
  EXPECT_THAT(NumbersIn("/proc"), Contains(getpid()));
  EXPECT_THAT(NumbersIn("/proc/self/attr"), IsEmpty());
  EXPECT_THAT(NumbersIn("/nowhere"), IsEmpty());
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
}  // namespace brood
