// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/samples.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <thread>

#include "pool/burst/percentile.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

absl::StatusOr<double> Timed(const Once& once) {
  const std::int64_t start = NowNs();
  BROOD_RETURN_IF_ERROR(once());
  return static_cast<double>(NowNs() - start) / 1e3;
}

absl::StatusOr<double> Checked(absl::StatusOr<double> us) {
  if (us.ok() && *us <= 0) {
    return Error(absl::StatusCode::kInternal, "an iteration took no time at all");
  }
  return us;
}

}  // namespace

void Fail(benchmark::State& state, const absl::Status& status) {
  state.SkipWithError(std::string(Message(status)).c_str());
}

absl::Status MeasureEach(int warm_ups, int iterations, const Once& once, Series& series) {
  for (int i = 0; i < warm_ups; ++i) BROOD_RETURN_IF_ERROR(once());
  std::vector<double>& latencies = series[kLatency];
  latencies.reserve(latencies.size() + static_cast<std::size_t>(iterations));
  for (int i = 0; i < iterations; ++i) {
    BROOD_ASSIGN_OR_RETURN(const double us, Checked(Timed(once)));
    latencies.push_back(us);
  }
  return absl::OkStatus();
}

void Samples::Measure(benchmark::State& state, const Once& once) {
  Loop(state, [&] { return Timed(once); });
}

void Samples::MeasureAfter(benchmark::State& state, std::chrono::milliseconds pause,
                           const Once& once) {
  Loop(state, [&] {
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    return Timed(once);
  });
}

void Samples::MeasurePart(benchmark::State& state,
                          const std::function<absl::StatusOr<double>()>& once) {
  Loop(state, once);
}

void Samples::Loop(benchmark::State& state, const std::function<absl::StatusOr<double>()>& once) {
  series_.clear();
  for (int i = 0; i < warm_ups_; ++i) {
    if (const absl::StatusOr<double> us = once(); !us.ok()) return Fail(state, us.status());
  }
  series_.clear();  // of what `once` added while warming up
  std::vector<double> latencies;
  latencies.reserve(static_cast<std::size_t>(state.max_iterations));
  absl::Status status;
  for ([[maybe_unused]] auto _ : state) {
    const absl::StatusOr<double> us = Checked(once());
    status = us.status();
    if (!status.ok()) {
      Fail(state, status);
      break;
    }
    latencies.push_back(*us);
    state.SetIterationTime(*us / 1e6);
  }
  if (status.ok()) {
    series_[kLatency] = std::move(latencies);
  } else {
    series_.clear();
  }
}

void Samples::Take(benchmark::State& state, Series series) {
  const std::vector<double>& latencies = series[kLatency];
  if (latencies.empty() ||
      std::any_of(latencies.begin(), latencies.end(), [](double us) { return !(us > 0); })) {
    return Fail(state, Error(absl::StatusCode::kInternal, "it measured nothing"));
  }
  const double mean = std::accumulate(latencies.begin(), latencies.end(), 0.0) /
                      static_cast<double>(latencies.size());
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(mean / 1e6);
  series_ = std::move(series);
}

}  // namespace brood::bench
