// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace brood {

void Histogram::Add(std::int64_t ns) {
  const double seconds = static_cast<double>(ns) / 1e9;
  std::size_t i = 0;
  while (i < kBounds && seconds > BoundSeconds(i)) ++i;
  ++counts_[i];
  sum_ += seconds;
}

void Histogram::Print(std::string_view metric, std::string_view labels, std::string& out) const {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i <= kBounds; ++i) {
    count += counts_[i];
    const std::string bound = i < kBounds ? fmt::format("{:g}", BoundSeconds(i)) : "+Inf";
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", metric, labels, bound, count);
  }
  out += fmt::format("{0}_sum{{{1}}} {2}\n{0}_count{{{1}}} {3}\n", metric, labels, sum_, count);
}

void FunctionMetrics::AddUsage(const Outcome& outcome) {
  if (outcome.usage.cpu_us) cpu_us = cpu_us.value_or(0) + *outcome.usage.cpu_us;
  if (const auto& peak = outcome.usage.memory_peak_bytes) {
    memory_peak_bytes = std::max(memory_peak_bytes.value_or(0), *peak);
  }
}

}  // namespace brood
