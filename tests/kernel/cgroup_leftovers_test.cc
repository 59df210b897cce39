// SPDX-License-Identifier: Apache-2.0

// What dead launchers leave, and several who clear it.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"
#include "tests/kernel/cgroup_test.h"
#include "tests/needs_limits.h"

namespace brood {
namespace {

TEST_F(CgroupTest, ClearsTheParentsOfDeadLaunchersOnly) {
  const ParentCgroup living = MakeParent();
  const pid_t bystander = ForkInto(MakeLeaf(living, "leaf"), Sleep);
  LeaveParentBehind();
  LeaveParentBehind();
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host_).value(), 2);
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host_).value(), 0);
  EXPECT_TRUE(living.LeafPopulated("leaf").value());
  EXPECT_TRUE(living.KillAll().ok());
  EXPECT_TRUE(WasKilled(bystander));
}

TEST_F(CgroupTest, ClearingSparesTheParentItRunsIn) {
  LeaveParentBehind();
  const UniqueFd brood = *OpenDirectoryAt(AT_FDCWD, (host_.base + "/brood").c_str());
  const std::string name = ChildNames(brood.get()).value().at(0);
  EXPECT_EQ(ExitCode(ForkInto(host_.base + "/brood/" + name + "/worker",
                              [&] {
                                CgroupHost inside = *CgroupHost::Discover();
                                inside.base = host_.base;
                                return ParentCgroup::ClearLeftovers(inside).value();
                              })),
            0);
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host_).value(), 1);
}

TEST_F(CgroupTest, TwoMayClearAtOnce) {
  constexpr int kParents = 6;
  for (int i = 0; i < kParents; ++i) LeaveParentBehind();
  std::atomic<int> cleared = 0;
  const auto clear = [&] {
    const auto count = ParentCgroup::ClearLeftovers(host_);
    EXPECT_TRUE(count.ok()) << count.status();
    cleared += count.value_or(0);
  };
  std::thread first(clear);
  std::thread second(clear);
  first.join();
  second.join();
  EXPECT_EQ(cleared, kParents);
}

TEST_F(CgroupTest, CreatingRemovingAndClearingDoNotDisturbEachOther) {
  constexpr int kRounds = 50;
  const auto come_and_go = [&] {
    for (int round = 0; round < kRounds; ++round) {
      auto parent = ParentCgroup::Create(host_, {});
      ASSERT_TRUE(parent.ok()) << parent.status();
      ASSERT_TRUE(parent->MakeLeaf("leaf", {}).ok());
      const absl::Status removed = parent->Remove();
      ASSERT_TRUE(removed.ok()) << removed;
    }
  };
  std::thread first(come_and_go);
  std::thread second(come_and_go);
  for (int round = 0; round < kRounds; ++round) {
    const auto cleared = ParentCgroup::ClearLeftovers(host_);
    EXPECT_TRUE(cleared.ok()) << cleared.status();
    EXPECT_EQ(cleared.value_or(0), 0);
  }
  first.join();
  second.join();
}

}  // namespace
}  // namespace brood
