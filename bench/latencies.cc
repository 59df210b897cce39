#include "bench/latencies.h"

#include <algorithm>
#include <cstdint>

#include "pool/percentile.h"
#include "spawn/reap.h"
#include "spawn/status.h"

namespace brood::bench {

void Fail(benchmark::State& state, const absl::Status& status) {
  state.SkipWithError(std::string(Message(status)).c_str());
}

void Latencies::Measure(benchmark::State& state, const std::function<absl::Status()>& once) {
  samples_us_.clear();
  for (int i = 0; i < kWarmUps; ++i) {
    if (const absl::Status status = once(); !status.ok()) return Fail(state, status);
  }
  samples_us_.reserve(static_cast<std::size_t>(state.max_iterations));
  absl::Status status;
  for ([[maybe_unused]] auto _ : state) {
    const std::int64_t start = NowNs();
    status = once();
    const auto elapsed_ns = static_cast<double>(NowNs() - start);
    if (status.ok() && elapsed_ns <= 0) {
      status = Error(absl::StatusCode::kInternal, "an iteration took no time at all");
    }
    if (!status.ok()) {
      Fail(state, status);
      break;
    }
    samples_us_.push_back(elapsed_ns / 1e3);
    state.SetIterationTime(elapsed_ns / 1e9);
  }
  if (!status.ok()) {
    samples_us_.clear();
    return;
  }
  std::vector<double> sorted = samples_us_;
  std::sort(sorted.begin(), sorted.end());
  state.counters["p50_us"] = Percentile(sorted, 50);
  state.counters["p90_us"] = Percentile(sorted, 90);
  state.counters["p99_us"] = Percentile(sorted, 99);
  state.counters["max_us"] = sorted.empty() ? 0 : sorted.back();
}

}  // namespace brood::bench
