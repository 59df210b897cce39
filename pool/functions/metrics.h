// SPDX-License-Identifier: Apache-2.0

// What the functions have done, as Prometheus reads it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "spawn/outcome.h"

namespace brood {

// Upper bounds from 50 us, each twice the one before, up to 26 s; then all.
class Histogram {
 public:
  static constexpr std::size_t kBounds = 20;
  static constexpr double BoundSeconds(std::size_t i) {
    return 50e-6 * static_cast<double>(std::uint64_t{1} << i);
  }
  void Add(std::int64_t ns);
  // Lines of a metric; `labels` without braces.
  void Print(std::string_view metric, std::string_view labels, std::string& out) const;

 private:
  std::array<std::uint64_t, kBounds + 1> counts_{};
  double sum_ = 0;
};

// Of one function. Only in the pool's thread.
struct FunctionMetrics {
  std::uint64_t accepted = 0;
  std::map<int, std::uint64_t> answers;         // by status
  std::uint64_t gone = 0;                       // callers who left before their answer
  std::uint64_t broken = 0;                     // answers broken off after they had begun
  std::map<std::string, std::uint64_t> paths;   // by spawn path
  std::map<std::string, std::uint64_t> misses;  // why the path wanted was not available
  std::uint64_t primed_lost = 0;                // primed workers that ended before a call
  Histogram queue, spawn, run, total;
  // Of isolates that have ended, where the kernel counts them.
  std::optional<std::uint64_t> cpu_us;             // all of them
  std::optional<std::uint64_t> memory_peak_bytes;  // the largest

  void AddUsage(const Outcome& outcome);
};

}  // namespace brood
