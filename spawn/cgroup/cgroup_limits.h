// SPDX-License-Identifier: Apache-2.0

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

// One line of io.max: "8:0 rbps=1048576 wiops=100". Pure.
std::string IoMaxText(const IoLimit& limit);

// Writes `limits` to the cgroup `name` in `parent`. A limit of memory comes with the death of the
// whole cgroup on OOM (memory.oom.group, Linux 4.19) instead of one process of it, and memory.max
// with no swap unless there is a limit for that. kFailedPrecondition when the parent does not pass
// the controller on, when the kernel lacks the file, when a device is none that can be limited, and
// when a cpuset has what the cgroups above do not: the kernel would take that and use others.
absl::Status WriteLimits(int parent, const std::string& name, const Limits& limits);

}  // namespace brood
