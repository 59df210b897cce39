// SPDX-License-Identifier: Apache-2.0

// Writing the limits of a cgroup to its files.
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

// Writes `limits` to the cgroup `name` in `parent`. With a memory limit, an OOM kills the whole
// cgroup (memory.oom.group, Linux 4.19) and not one process of it, and memory.max allows no swap
// unless swap has a limit of its own. kFailedPrecondition when the parent does not pass the
// controller on, when the kernel lacks the file, when a device cannot be limited, and when a cpuset
// has what the cgroups above lack: the kernel would accept that and use others.
absl::Status WriteLimits(int parent, const std::string& name, const Limits& limits);

}  // namespace brood
