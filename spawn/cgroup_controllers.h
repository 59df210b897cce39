// Controllers: which ones limits need, how a cgroup passes them on, and the limits themselves.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/cgroup_host.h"
#include "spawn/spec.h"

namespace brood {

// The controllers that `limits` need: some of "memory", "pids", "cpu". None without limits.
std::vector<std::string_view> ControllersFor(const Limits& limits);

// OK when `host.base` has all controllers that `limits` need. Else kFailedPrecondition, naming the
// first that is missing, where it is instead, and what to do. Pure.
absl::Status CheckControllers(const CgroupHost& host, const Limits& limits);

// Makes the cgroup open as `directory` pass `controllers` on to those below it; what it passes on
// already stays. A cgroup with processes must not (save the top of the hierarchy): when all of
// them are this process and its descendants they move to kLauncherLeaf, else kFailedPrecondition.
// Not undone later: others may have come to rely on it. Moving takes a global kernel lock and may
// wait for RCU grace periods: call it once, early.
absl::Status EnableControllers(int directory, std::span<const std::string_view> controllers);

// The text of cpu.max, "QUOTA PERIOD" in microseconds. The period is 100 ms, or 1 s (the longest)
// where the quota would fall below the kernel's least, 1 ms. The quota is rounded to the nearest
// microsecond. kInvalidArgument below 0.001 cpus, above a million, and for what is no number.
absl::StatusOr<std::string> CpuMaxText(double cpus);

// Writes `limits` to the cgroup `name` in `parent`. memory.max comes with no swap, and with the
// death of the whole cgroup on OOM (memory.oom.group, Linux 4.19) instead of one process of it.
// kFailedPrecondition when the parent does not pass the controller on.
absl::Status WriteLimits(int parent, const std::string& name, const Limits& limits);

}  // namespace brood
