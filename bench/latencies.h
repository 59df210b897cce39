// The real time of every single iteration.
//
// Google Benchmark times a whole loop and knows its mean; what spawning costs is told by medians
// and tails. So each iteration is timed by itself, and handed to the library as manual time.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace brood::bench {

// Makes the row an error, with the sentence of `status`. Whoever calls it returns.
void Fail(benchmark::State& state, const absl::Status& status);

// The latencies of one repetition of one benchmark.
class Latencies {
 public:
  // Iterations before the measured ones: the first pays for cold caches and lazily made things.
  static constexpr int kWarmUps = 3;

  // Runs `once`, kWarmUps times unmeasured and then state.max_iterations times measured, and sets
  // the counters p50_us, p90_us, p99_us and max_us. `once` has to check what it ran: the first
  // error ends the repetition as an error, since what fails is mostly fast.
  void Measure(benchmark::State& state, const std::function<absl::Status()>& once);

  // In microseconds, in the order measured. Empty after an error.
  std::vector<double> Take() { return std::exchange(samples_us_, {}); }

 private:
  std::vector<double> samples_us_;
};

}  // namespace brood::bench
