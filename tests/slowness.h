// SPDX-License-Identifier: Apache-2.0

// Patience on slow machines: tests' guards against hanging are multiplied by the environment's
// BROOD_TEST_SLOWNESS, which tests/vm/run sets for emulated processors. What a test measures, or
// waits for on purpose, stays as it is.
#pragma once

#include <chrono>
#include <cstdlib>

namespace brood {

// 1 where nothing sensible is set.
inline int Slowness() {
  static const int slowness = [] {
    const char* text = std::getenv("BROOD_TEST_SLOWNESS");
    const int number = text == nullptr ? 1 : std::atoi(text);
    return number >= 1 && number <= 1000 ? number : 1;
  }();
  return slowness;
}

// A guard's length on this machine.
inline std::chrono::seconds Patience(std::chrono::seconds usual) { return usual * Slowness(); }

}  // namespace brood
