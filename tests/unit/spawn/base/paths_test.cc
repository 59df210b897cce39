// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/paths.h"

#include <gtest/gtest.h>

namespace brood {
namespace {

TEST(PathsTest, UnderIsMoreThanAPrefix) {
  EXPECT_TRUE(IsUnder("/a/b", "/a/b"));
  EXPECT_TRUE(IsUnder("/a/b/c", "/a/b"));
  EXPECT_FALSE(IsUnder("/a/bc", "/a/b"));
  EXPECT_FALSE(IsUnder("/a", "/a/b"));
  EXPECT_FALSE(IsUnder("", "/a"));
  EXPECT_TRUE(IsUnder("/", "/"));
  EXPECT_TRUE(IsUnder("/a", "/"));
}

TEST(PathsTest, BelowIsWhatIsLeft) {
  EXPECT_EQ(PathBelow("/a/b/c", "/a"), "b/c");
  EXPECT_EQ(PathBelow("/a", "/a"), "");
  EXPECT_EQ(PathBelow("/a/b", "/"), "a/b");
  EXPECT_EQ(PathBelow("/", "/"), "");
}

}  // namespace
}  // namespace brood
