// SPDX-License-Identifier: Apache-2.0

// brood stress, interrupted again and again.
#include <gmock/gmock.h>

#include "tests/cli/stress_leftovers.h"
#include "tests/kernel/machine_state.h"

namespace brood {
namespace {

class StressManyInterruptionsTest : public LeavesNothing {};

TEST_F(StressManyInterruptionsTest, AHundredLeaveNothing) {
  EXPECT_THAT(InterruptStress(100), ::testing::IsEmpty());
}

}  // namespace
}  // namespace brood
