// SPDX-License-Identifier: Apache-2.0

// How long to wait before what could not start is tried again.
#pragma once

#include <algorithm>
#include <chrono>

namespace brood {

// Longer after each of `failures` in a row: what cannot start would keep the machine busy.
inline std::chrono::milliseconds Backoff(int failures) {
  return std::chrono::milliseconds(10) * (1 << std::min(failures, 9));
}

}  // namespace brood
