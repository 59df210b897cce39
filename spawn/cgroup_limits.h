// The limits of a cgroup, in the words of its files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/spec.h"

namespace brood {

// The text of cpu.max, "QUOTA PERIOD" in microseconds. Without a period of its own it is 100 ms, or
// 1 s (the longest) where the quota would fall below the kernel's least, 1 ms. The quota is rounded
// to the nearest microsecond. kInvalidArgument below 0.001 cpus, above a million, for what is no
// number, and for a period that the kernel would not take. Pure.
absl::StatusOr<std::string> CpuMaxText(double cpus, std::optional<std::uint64_t> period_us = {});

// One line of io.max: "8:0 rbps=1048576 wiops=100". Pure.
std::string IoMaxText(const IoLimit& limit);

// The numbers in a list as cpuset.cpus and cpuset.mems have it ("0-3,7"), in order and once each.
// kInvalidArgument for anything else, for an empty list, and for numbers above 65,535. Pure.
absl::StatusOr<std::vector<std::uint32_t>> ParseCpuList(std::string_view text);

// Writes `limits` to the cgroup `name` in `parent`. A limit of memory comes with the death of the
// whole cgroup on OOM (memory.oom.group, Linux 4.19) instead of one process of it, and memory.max
// with no swap unless there is a limit for that. kFailedPrecondition when the parent does not pass
// the controller on, when the kernel lacks the file, when a device is none that can be limited, and
// when a cpuset has what the cgroups above do not: the kernel would take that and use others.
absl::Status WriteLimits(int parent, const std::string& name, const Limits& limits);

}  // namespace brood
