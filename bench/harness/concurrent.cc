// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/concurrent.h"

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

struct Worker {
  Once once;
  Series series;
  absl::Status status;
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
};

}  // namespace

Row ConcurrentRow(std::string name, int threads, std::function<absl::StatusOr<Once>()> prepare) {
  Row row;
  row.name = std::move(name);
  row.parameters = {{"concurrency", threads}};
  row.run = [threads, prepare = std::move(prepare)](benchmark::State& state, Samples& samples) {
    std::vector<Worker> workers(static_cast<std::size_t>(threads));
    for (Worker& worker : workers) {
      absl::StatusOr<Once> once = prepare();
      if (!once.ok()) return Fail(state, once.status());
      worker.once = *std::move(once);
    }
    const auto iterations = static_cast<int>(state.max_iterations);
    std::barrier warm(threads);
    std::vector<std::thread> running;
    running.reserve(workers.size());
    for (Worker& worker : workers) {
      running.emplace_back([&] {
        Series ignored;
        worker.status = MeasureEach(0, samples.warm_ups(), worker.once, ignored);
        warm.arrive_and_wait();
        worker.start_ns = NowNs();
        worker.status.Update(MeasureEach(0, iterations, worker.once, worker.series));
        worker.end_ns = NowNs();
      });
    }
    for (std::thread& thread : running) thread.join();

    Series all;
    std::int64_t start_ns = workers[0].start_ns;
    std::int64_t end_ns = workers[0].end_ns;
    for (const Worker& worker : workers) {
      if (!worker.status.ok()) return Fail(state, worker.status);
      const std::vector<double>& own = worker.series.at(kLatency);
      all[kLatency].insert(all[kLatency].end(), own.begin(), own.end());
      start_ns = std::min(start_ns, worker.start_ns);
      end_ns = std::max(end_ns, worker.end_ns);
    }
    all["per_s"] = {static_cast<double>(all[kLatency].size()) /
                    (static_cast<double>(end_ns - start_ns) / 1e9)};
    samples.Take(state, std::move(all));
  };
  return row;
}

}  // namespace brood::bench
