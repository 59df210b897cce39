// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "spawn/base/clock.h"

namespace brood {

void CallTimes::SetWorker(const FunctionWorker& worker, bool ahead) {
  path = worker.PathName(ahead);
  served_before = worker.served_before;
  started_ns = worker.started_ns;
}

Fields CallTimes::ToFields() const {
  const std::int64_t now = NowNs();
  const auto us = [](std::int64_t ns) {
    return fmt::to_string(std::max<std::int64_t>(ns, 0) / 1000);
  };
  Fields fields;
  if (!id.empty()) fields.emplace_back("Brood-Call-Id", id);
  const std::int64_t run = run_ns == 0 ? now : run_ns;
  if (!path.empty()) {
    const std::int64_t started = started_ns == 0 ? run : started_ns;
    fields.emplace_back("Brood-Path", path);
    if (served_before > 0) {
      fields.emplace_back("Brood-Served-Before", fmt::to_string(served_before));
    }
    fields.emplace_back("Brood-Spawn-Us", us(started - run));
    fields.emplace_back("Brood-Run-Us", us((ended_ns == 0 ? now : ended_ns) - started));
  }
  fields.emplace_back("Brood-Queue-Us", us(run - arrived_ns));
  fields.emplace_back("Brood-Total-Us", us(now - arrived_ns));
  return fields;
}

CallReport CallTimes::Report(const std::string& function, const CallEnd& end,
                             std::string err) const {
  return {.function = function,
          .id = id,
          .status = end.status,
          .end = end.end,
          .message = end.message.empty() && !end.good() ? end.why : end.message,
          .err = std::move(err),
          .path = std::string(path),
          .total_us = (NowNs() - arrived_ns) / 1000};
}

void CallTimes::AddTo(FunctionMetrics& metrics) const {
  ++metrics.paths[std::string(path)];
  const std::int64_t started = started_ns == 0 ? run_ns : started_ns;
  metrics.queue.Add(run_ns - arrived_ns);
  metrics.spawn.Add(started - run_ns);
  metrics.run.Add(ended_ns - started);
  metrics.total.Add(NowNs() - arrived_ns);
}

}  // namespace brood
