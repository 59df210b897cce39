// SPDX-License-Identifier: Apache-2.0

// Every single value that a row measures.
//
// Google Benchmark times a whole loop and knows its mean; what spawning costs is told by medians
// and tails. So each iteration is timed by itself, and handed to the library as manual time.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brood::bench {

// Makes the row an error, with the sentence of `status`. Whoever calls it returns.
void Fail(benchmark::State& state, const absl::Status& status);

// Values by name. A name ends in its unit: "us", "reap_us", "per_s", "worker_bytes"; one without is
// a count or a ratio. "us" is the row's own latency, the one that is compared with its floor's.
using Series = std::map<std::string, std::vector<double>>;
inline constexpr char kLatency[] = "us";

// What is measured over and over. It checks what it did: its error is the measurement's.
using Once = std::function<absl::Status()>;

// Runs `once` `warm_ups` times unmeasured, then `iterations` times, each timed into series["us"].
// An error of one ends it, since what fails is mostly fast. For who has no benchmark::State.
absl::Status MeasureEach(int warm_ups, int iterations, const Once& once, Series& series);

// What one measurement of one row gives. Not thread-safe.
class Samples {
 public:
  explicit Samples(int warm_ups) : warm_ups_(warm_ups) {}

  int warm_ups() const { return warm_ups_; }

  // Runs `once`, warm_ups() times unmeasured and then state.max_iterations times measured. `once`
  // has to check what it ran: the first error makes the whole measurement one.
  void Measure(benchmark::State& state, const Once& once);

  // The same, with a pause before each.
  void MeasureAfter(benchmark::State& state, std::chrono::milliseconds pause, const Once& once);

  // The same, where only a part of `once` counts: it returns the microseconds of that part.
  void MeasurePart(benchmark::State& state, const std::function<absl::StatusOr<double>()>& once);

  // Takes what was measured elsewhere: by another process, or by several threads. `series` has
  // values of kLatency, of which the library is told the mean.
  void Take(benchmark::State& state, Series series);

  // One more value, beside the latency.
  void Add(const std::string& name, double value) { series_[name].push_back(value); }

  // In the order measured. Empty after an error.
  Series Release() { return std::exchange(series_, {}); }

 private:
  void Loop(benchmark::State& state, const std::function<absl::StatusOr<double>()>& once);

  int warm_ups_;
  Series series_;
};

}  // namespace brood::bench
