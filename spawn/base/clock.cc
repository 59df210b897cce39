// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/clock.h"

#include <ctime>

namespace brood {

std::int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace brood
