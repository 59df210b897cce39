// SPDX-License-Identifier: Apache-2.0

// Which ids an ordinary user may map, and how.
#include "spawn/host/subordinate_ids.h"

#include <gtest/gtest.h>

#include <map>

#include "spawn/host/id_ranges.h"

namespace brood {
namespace {

TEST(SubordinateIdsTest, RangeIsFoundByNameOrNumber) {
  constexpr std::string_view kFile =
      "# a comment\nalice:100000:65536\n1001:200000:65536\nbob:300000:1000\nbob:400000:131072\n\n"
      "carol:500000\ndave:x:65536\nerin:4294967295:65536\n";
  EXPECT_EQ(FindSubordinateRange(kFile, "alice", 1000), 100000U);
  EXPECT_EQ(FindSubordinateRange(kFile, "nameless", 1001), 200000U);
  EXPECT_EQ(FindSubordinateRange(kFile, "bob", 1002), 400000U) << "the first is too small";
  for (const char* const nobody : {"carol", "dave", "erin", "alic", ""}) {
    EXPECT_EQ(FindSubordinateRange(kFile, nobody, 1), std::nullopt) << nobody;
  }
  EXPECT_EQ(FindSubordinateRange("", "alice", 1000), std::nullopt);
  EXPECT_EQ(FindSubordinateRange("alice:7:65536", "alice", 1000), 7U) << "without a last newline";
}

// Every id inside once, the user's own under its own number, and nobody else's.
void ExpectWhole(std::uint32_t first, std::uint32_t own) {
  std::map<std::uint32_t, std::uint32_t> outside_of;
  for (const IdExtent& extent : SubordinateMap(first, own)) {
    EXPECT_GT(extent.count, 0U);
    for (std::uint32_t i = 0; i < extent.count; ++i) {
      EXPECT_TRUE(outside_of.emplace(extent.inside + i, extent.outside + i).second);
    }
  }
  for (std::uint32_t id = 0; id < kIdsPerRange; ++id) {
    ASSERT_EQ(outside_of.count(id), 1U) << id;
    ASSERT_EQ(outside_of[id], id == own ? own : first + id) << id;
  }
  EXPECT_EQ(outside_of[own], own);
  EXPECT_EQ(outside_of.size(), own < kIdsPerRange ? kIdsPerRange : kIdsPerRange + 1);
}

TEST(SubordinateIdsTest, MapKeepsTheUsersOwnNumber) {
  for (const std::uint32_t own : {0U, 1U, 1000U, 65534U, 65535U, 65536U, 1'000'000U}) {
    SCOPED_TRACE(own);
    ExpectWhole(100'000, own);
  }
}

TEST(SubordinateIdsTest, NestedMapRepeatsTheLinesOfTheOuterOne) {
  EXPECT_EQ(NestedMap(SubordinateMap(100'000, 1000)), "0 0 1000\n1000 1000 1\n1001 1001 64535\n");
  EXPECT_EQ(NestedMap({}), "");
}

}  // namespace
}  // namespace brood
