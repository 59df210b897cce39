// SPDX-License-Identifier: Apache-2.0

// Percentiles of measured values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace brood {

// The nearest-rank percentile of `sorted` (ascending): the smallest value that at least
// `percent` of all values do not exceed. 0 for no values.
inline double Percentile(const std::vector<double>& sorted, double percent) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()));
  const auto index = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return sorted[std::min(index, sorted.size() - 1)];
}

}  // namespace brood
