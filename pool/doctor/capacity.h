// SPDX-License-Identifier: Apache-2.0

// Whether this machine's counts allow as many workers as are wanted.
#pragma once

#include <cstdint>
#include <vector>

#include "pool/doctor/finding.h"

namespace brood {

// Adds a finding for each limit that would be reached before `workers` are parked at once, with its
// value and what it would have to be; one finding that all is fine when none is.
void AddCapacity(std::uint32_t workers, std::vector<Finding>& findings);

}  // namespace brood
