// SPDX-License-Identifier: Apache-2.0

// Percentiles and spreads on data whose answers are known.
#include "bench/harness/statistics.h"

#include <gtest/gtest.h>

#include <numeric>

namespace brood {
namespace {

std::vector<double> OneTo(int count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

TEST(PercentileTest, IsTheNearestRank) {
  const std::vector<double> hundred = OneTo(100);
  EXPECT_EQ(Percentile(hundred, 50), 50);
  EXPECT_EQ(Percentile(hundred, 99), 99);
  EXPECT_EQ(Percentile(hundred, 100), 100);
  EXPECT_EQ(Percentile(hundred, 0), 1);
  EXPECT_EQ(Percentile(OneTo(10), 99), 10);
  EXPECT_EQ(Percentile(OneTo(3), 50), 2);
  EXPECT_EQ(Percentile({7}, 90), 7);
  EXPECT_EQ(Percentile({}, 50), 0);
}

TEST(StatisticsTest, MedianAndMad) {
  EXPECT_EQ(bench::Median({3, 1, 2}), 2);
  EXPECT_EQ(bench::Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(bench::Median({}), 0);
  EXPECT_EQ(bench::Mad({1, 1, 2, 2, 4, 6, 9}), 1);
  EXPECT_EQ(bench::Mad({5, 5, 5, 1000}), 0);
}

TEST(StatisticsTest, RatioNeedsAFloor) {
  EXPECT_EQ(bench::Ratio(3, 2), 1.5);
  EXPECT_FALSE(bench::Ratio(3, 0).has_value());
}

TEST(StatisticsTest, SummaryPoolsRepetitionsAndSpreadsTheirMedians) {
  const bench::Summary summary = bench::Summarize({{1, 2, 3}, {}, {4, 5, 6}, {7, 8, 9}});
  EXPECT_EQ(summary.count, 9U);
  EXPECT_EQ(summary.p50, 5);
  EXPECT_EQ(summary.max, 9);
  EXPECT_EQ(summary.mad, 3);
  EXPECT_EQ(summary.least, 2);
  EXPECT_EQ(summary.most, 8);
  EXPECT_EQ(bench::Summarize({}).count, 0U);
}

}  // namespace
}  // namespace brood
