// SPDX-License-Identifier: Apache-2.0

// A zygote by its own interface, without a pool.
#include "spawn/launch/zygote.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <thread>

#include "spawn/base/status.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/slowness.h"

namespace brood {
namespace {

TEST(ZygoteTest, AnEmptyOrderIsNoEnd) {
  BROOD_NEEDS_ROOT();
  Spec spec;
  spec.use_cgroup = false;
  const auto blueprint = Blueprint::Make(spec, PlanKind::kTemplate);
  ASSERT_TRUE(blueprint.ok()) << Message(blueprint.status());
  auto zygote = Zygote::Start(*blueprint, {.slots = 2});
  ASSERT_TRUE(zygote.ok()) << Message(zygote.status());
  ASSERT_TRUE((*zygote)->Order({}).ok());

  Mailbox& box = (*zygote)->mailbox(0);
  SetIdMap(*blueprint, 0x70000000, box);
  StoreState(box, WorkerState::kOrdered);
  const std::array<std::uint32_t, 1> slots = {0};
  ASSERT_TRUE((*zygote)->Order(slots).ok());
  const auto deadline = std::chrono::steady_clock::now() + Patience(std::chrono::seconds(30));
  while (LoadState(box) != WorkerState::kParked && LoadState(box) != WorkerState::kFailed &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(LoadState(box), WorkerState::kParked) << box.failure.error;
  EXPECT_FALSE(HasEnded(UniqueFd(dup((*zygote)->pidfd()))));
  if (box.pid > 0) KillAndReap(box.pid);
}

}  // namespace
}  // namespace brood
