// SPDX-License-Identifier: Apache-2.0

// Cgroup leaves made, used and given back many times: shared by the everyday test and the slow one.
#pragma once

#include "spawn/spec.h"

namespace brood {

// Takes `count` leaves for `spec` one after the other, runs a process in each and gives it back.
// Each must be taken as new: no process, no counts, its limits set; and the dying cgroups, which
// the kernel keeps for what is still charged to them, must not pile up. Skips the calling test when
// the controllers are not there.
void CycleLeaves(const Spec& spec, int count);

}  // namespace brood
