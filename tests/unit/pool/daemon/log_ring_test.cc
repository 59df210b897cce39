// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/log_ring.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

namespace brood {
namespace {

TEST(LogRingTest, KeepsBothStreamsInTheirOrder) {
  LogRing ring(100);
  ring.Append(1, "one");
  ring.Append(1, "more");
  ring.Append(2, "two");
  std::uint64_t position = 0;
  const auto first = ring.Read(position);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->stream, 1);
  EXPECT_EQ(first->bytes, "onemore");
  EXPECT_EQ(first->lost, 0U);
  const auto second = ring.Read(position);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->stream, 2);
  EXPECT_EQ(second->bytes, "two");
  EXPECT_FALSE(ring.Read(position));
  EXPECT_EQ(position, ring.end());
}

TEST(LogRingTest, TellsWhatIsLost) {
  LogRing ring(4);
  ring.Append(1, "abc");
  ring.Append(2, "defghij");  // longer than all that is kept
  std::uint64_t position = 1;
  const auto part = ring.Read(position);
  ASSERT_TRUE(part);
  EXPECT_EQ(part->lost, 5U);
  EXPECT_EQ(part->bytes, "ghij");
  EXPECT_EQ(ring.kept(), 4U);
  EXPECT_EQ(ring.end(), 10U);
}

TEST(LogRingTest, WithoutRoomNothingIsKept) {
  LogRing ring(0);
  ring.Append(1, "abc");
  std::uint64_t position = 0;
  EXPECT_FALSE(ring.Read(position));
  EXPECT_EQ(ring.end(), 3U);
  EXPECT_EQ(ring.kept(), 0U);
}

// Against every byte ever written, with the stream it went to.
TEST(LogRingTest, DoesWhatANaiveOneDoes) {
  std::mt19937 random(20240607);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  for (const std::size_t capacity : {1UL, 2UL, 7UL, 100UL, 4096UL, 4097UL, 20'000UL}) {
    LogRing ring(capacity);
    std::vector<std::pair<std::uint8_t, char>> all;
    std::vector<std::uint64_t> readers(3, 0);
    for (int step = 0; step < 2000; ++step) {
      if (below(2) == 0) {
        const auto stream = static_cast<std::uint8_t>(1 + below(2));
        const std::size_t longest = below(20) == 0 ? 3 * capacity : capacity / 3 + 2;
        std::string bytes(below(longest + 1), ' ');
        for (char& c : bytes) c = static_cast<char>(random());
        ring.Append(stream, bytes);
        for (const char c : bytes) all.emplace_back(stream, c);
      }
      ASSERT_EQ(ring.end(), all.size());
      ASSERT_EQ(ring.kept(), std::min(capacity, all.size()));
      std::uint64_t& reader = readers[below(readers.size())];
      if (below(10) == 0) reader = below(all.size() + 2);
      const std::uint64_t from = reader;
      const auto part = ring.Read(reader);
      if (from >= all.size()) {
        ASSERT_FALSE(part);
        ASSERT_EQ(reader, from);
        continue;
      }
      ASSERT_TRUE(part);
      const std::uint64_t begin = std::max<std::uint64_t>(from, all.size() - ring.kept());
      ASSERT_EQ(part->lost, begin - from);
      ASSERT_FALSE(part->bytes.empty());
      ASSERT_EQ(reader, begin + part->bytes.size());
      for (std::size_t i = 0; i < part->bytes.size(); ++i) {
        ASSERT_EQ(std::pair(part->stream, part->bytes[i]), all[begin + i]);
      }
    }
  }
}

}  // namespace
}  // namespace brood
