// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/burst_row.h"

#include <utility>

#include "spawn/base/status.h"
#include "spawn/outcome.h"

namespace brood::bench {
namespace {

absl::Status Check(const BurstReport& report) {
  if (report.failed != 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "{} of {} failed; the first: {}",
                 report.failed, report.count, report.first_failure);
  }
  const BurstReport::LeftBehind& left = report.left_behind;
  if (!left.any()) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition,
               "{} processes, {} cgroups, {} mounts and {} descriptors were left behind",
               left.processes, left.cgroups, left.mounts, left.fds);
}

}  // namespace

Row BurstRow(std::string name, BurstOptions options) {
  Row row;
  row.name = std::move(name);
  row.iterations = 1;
  row.warm_ups = 0;
  row.every = 3;
  row.leaves_debt = true;
  row.run = [options = std::move(options)](benchmark::State& state, Samples& samples) {
    samples.MeasurePart(state, [&]() -> absl::StatusOr<double> {
      BROOD_ASSIGN_OR_RETURN(const BurstReport report, RunBurst(options));
      BROOD_RETURN_IF_ERROR(Check(report));
      samples.Add("per_s", report.rate_per_s);
      samples.Add("p50_us", report.latency_us.p50);
      samples.Add("p99_us", report.latency_us.p99);
      if (options.floor) {
        samples.Add("rate_ratio", report.RateRatio());
        samples.Add("floor_per_s", report.floor_rate_per_s);
        samples.Add("floor_p50_us", report.floor_us.p50);
        samples.Add("floor_p99_us", report.floor_us.p99);
      }
      if (report.park_us_p50 > 0) samples.Add("park_us", report.park_us_p50);
      if (report.park_bytes > 0) samples.Add("worker_bytes", report.park_bytes);
      state.SetLabel(ToText(report.fallbacks));
      return 1e6 / report.rate_per_s;
    });
  };
  return row;
}

}  // namespace brood::bench
