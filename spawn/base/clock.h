// SPDX-License-Identifier: Apache-2.0

// The clock that all moments are told by.
#pragma once

#include <cstdint>

namespace brood {

// CLOCK_MONOTONIC in nanoseconds, through the vDSO.
std::int64_t NowNs();

}  // namespace brood
