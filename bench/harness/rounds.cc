// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/rounds.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "bench/harness/collector.h"
#include "bench/harness/progress.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

// How long a measurement that leaves the kernel cleaning up holds back the next one: dead network
// namespaces are taken down by a worker of the kernel's, which nobody can wait for.
constexpr std::chrono::milliseconds kSettle{100};

volatile std::sig_atomic_t stop_asked = 0;

void AskToStop(int) { stop_asked = 1; }

// While it lives, SIGINT and SIGTERM ask to stop; a second one ends the process as usual.
class StopSignals {
 public:
  StopSignals() {
    stop_asked = 0;
    struct sigaction action = {};
    action.sa_handler = AskToStop;
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &old_[i]);
  }
  ~StopSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &old_[i], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM};
  std::array<struct sigaction, kSignals.size()> old_{};
};

// One measurement, through Google Benchmark.
Measurement MeasureRow(const Row& row) {
  Measurement out;
  out.row = row.name;
  Samples samples(row.warm_ups);
  benchmark::RegisterBenchmark(row.name.c_str(),
                               [&](benchmark::State& state) { row.run(state, samples); })
      ->Iterations(row.iterations)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector, "all");
  benchmark::ClearRegisteredBenchmarks();
  out.label = collector.label();
  out.error = collector.error();
  if (out.error.empty()) out.values = samples.Release();
  if (out.error.empty() && out.values.empty()) out.error = "it measured nothing";
  return out;
}

bool TakesPart(const Row& row, int round) {
  return row.unavailable.empty() && round % row.every == 0;
}

}  // namespace

absl::Status RunRounds(const std::vector<Row>& rows, int rounds, Record& record) {
  const StopSignals signals;
  std::string name = "brood-bench";
  std::array<char*, 1> argv = {name.data()};
  int argc = 1;
  benchmark::Initialize(&argc, argv.data());
  const auto shut = absl::MakeCleanup([] { benchmark::Shutdown(); });

  std::vector<std::pair<int, const Row*>> work;
  for (int round = 0; round < rounds; ++round) {
    std::vector<const Row*> order;
    for (const Row& row : rows) {
      if (TakesPart(row, round)) order.push_back(&row);
    }
    std::shuffle(order.begin(), order.end(), std::mt19937(static_cast<unsigned>(round) + 1));
    for (const Row* const row : order) {
      if (!record.Has(round, row->name)) work.emplace_back(round, row);
    }
  }

  const double began_s = record.measurements().empty() ? 0 : record.measurements().back().at_s;
  const std::int64_t start_ns = NowNs();
  Progress progress(static_cast<double>(work.size()));
  for (const auto& [round, row] : work) {
    progress.Begin(fmt::format("round {} of {}: {}", round + 1, rounds, row->name));
    const double at_s = began_s + static_cast<double>(NowNs() - start_ns) / 1e9;
    Measurement measurement = MeasureRow(*row);
    measurement.round = round;
    measurement.at_s = at_s;
    // What a signal has cut short, as one that also went to a child, is no measurement.
    if (stop_asked != 0) {
      return Error(absl::StatusCode::kCancelled,
                   "stopped in round {} of {}; go on with: --resume {}", round + 1, rounds,
                   record.directory().string());
    }
    BROOD_RETURN_IF_ERROR(record.Append(std::move(measurement)));
    if (row->leaves_debt) std::this_thread::sleep_for(kSettle);
    progress.Done(1);
  }
  return absl::OkStatus();
}

}  // namespace brood::bench
