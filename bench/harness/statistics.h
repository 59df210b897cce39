// SPDX-License-Identifier: Apache-2.0

// The few statistics that the report is made of. Pure; percentiles are pool/burst/percentile.h's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

#include "pool/burst/percentile.h"

namespace brood::bench {

// The middle value; the mean of the two middle ones for an even count; 0 for no values.
inline double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Median absolute deviation from the median: a spread that outliers do not move. 0 for no values.
inline double Mad(std::vector<double> values) {
  const double median = Median(values);
  for (double& value : values) value = std::abs(value - median);
  return Median(std::move(values));
}

// value / floor; none when there is no floor to compare with.
inline std::optional<double> Ratio(double value, double floor) {
  if (!(floor > 0)) return std::nullopt;
  return value / floor;
}

// The latencies of one row, all repetitions together.
struct Summary {
  std::size_t count = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
  // Of the repetitions' own medians: what running it again may change.
  double mad = 0;
  double least = 0;
  double most = 0;
};

inline Summary Summarize(const std::vector<std::vector<double>>& repetitions) {
  std::vector<double> all;
  std::vector<double> medians;
  for (const std::vector<double>& repetition : repetitions) {
    if (repetition.empty()) continue;
    all.insert(all.end(), repetition.begin(), repetition.end());
    medians.push_back(Median(repetition));
  }
  if (all.empty()) return {};
  std::sort(all.begin(), all.end());
  const auto [least, most] = std::minmax_element(medians.begin(), medians.end());
  return {all.size(),
          Percentile(all, 50),
          Percentile(all, 90),
          Percentile(all, 99),
          all.back(),
          Mad(medians),
          *least,
          *most};
}

}  // namespace brood::bench
