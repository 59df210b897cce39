// SPDX-License-Identifier: Apache-2.0

// Whether this machine's counts allow as many workers as are wanted.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/doctor/finding.h"
#include "spawn/host/cgroup_host.h"

namespace brood {

// Adds a finding for each limit that would be reached before `workers` are parked at once, with its
// value and what it would have to be (`host`: where cgroups may be made); one finding that all is
// fine when none is.
void AddCapacity(std::uint32_t workers, const absl::StatusOr<CgroupHost>& host,
                 std::vector<Finding>& findings);

}  // namespace brood
