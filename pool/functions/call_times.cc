// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "spawn/base/clock.h"

namespace brood {

Fields CallTimes::ToFields(const FunctionWorker* worker, bool ahead) const {
  const std::int64_t now = NowNs();
  const auto us = [](std::int64_t ns) {
    return fmt::to_string(std::max<std::int64_t>(ns, 0) / 1000);
  };
  Fields fields;
  const std::int64_t run = run_ns == 0 ? now : run_ns;
  if (worker != nullptr) {
    const std::int64_t started = worker->started_ns == 0 ? run : worker->started_ns;
    fields.emplace_back("Brood-Path", worker->PathName(ahead));
    if (worker->served_before > 0) {
      fields.emplace_back("Brood-Served-Before", fmt::to_string(worker->served_before));
    }
    fields.emplace_back("Brood-Spawn-Us", us(started - run));
    fields.emplace_back("Brood-Run-Us", us((ended_ns == 0 ? now : ended_ns) - started));
  }
  fields.emplace_back("Brood-Queue-Us", us(run - arrived_ns));
  fields.emplace_back("Brood-Total-Us", us(now - arrived_ns));
  return fields;
}

void CallTimes::AddTo(FunctionMetrics& metrics, const FunctionWorker& worker, bool ahead) const {
  ++metrics.paths[std::string(worker.PathName(ahead))];
  const std::int64_t started = worker.started_ns == 0 ? run_ns : worker.started_ns;
  metrics.queue.Add(run_ns - arrived_ns);
  metrics.spawn.Add(started - run_ns);
  metrics.run.Add(ended_ns - started);
  metrics.total.Add(NowNs() - arrived_ns);
}

}  // namespace brood
