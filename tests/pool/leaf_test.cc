// SPDX-License-Identifier: Apache-2.0

// Leaves of the stock: new for each worker, or as good as new.
#include <gtest/gtest.h>

#include "tests/pool/leaf_cycle.h"

namespace brood {
namespace {

constexpr int kLeaves = 500;

TEST(LeafStockTest, RecycledLeavesAreCleanAndDoNotPileUp) { CycleLeaves({}, kLeaves); }

TEST(LeafStockTest, LeavesWithLimitsAreCleanAndDoNotPileUp) {
  Spec spec;
  spec.limits = {.memory_bytes = 64 << 20, .pids = 8};
  CycleLeaves(spec, kLeaves);
}

}  // namespace
}  // namespace brood
