// SPDX-License-Identifier: Apache-2.0

// What tests/pool/limit_test.cc and leaf_test.cc do, as often as it takes to be sure.
#include <gtest/gtest.h>

#include "tests/needs_limits.h"
#include "tests/pool/leaf_cycle.h"
#include "tests/pool/tiny_memory.h"

namespace brood {
namespace {

constexpr int kLeaves = 100'000;

TEST(LimitSlowTest, AHundredThousandRecycledLeavesDoNotPileUp) { CycleLeaves({}, kLeaves); }

TEST(LimitSlowTest, AHundredThousandLeavesWithLimitsDoNotPileUp) {
  Spec spec;
  spec.limits = {.memory_bytes = 64 << 20, .pids = 8};
  CycleLeaves(spec, kLeaves);
}

TEST(LimitSlowTest, AThousandTinyMemoryLimitsEndOnlyTheirOwnWorkers) {
  BROOD_NEEDS_LIMITS(Limits{.memory_bytes = 1});
  RunWithTinyMemory(1000);
}

}  // namespace
}  // namespace brood
