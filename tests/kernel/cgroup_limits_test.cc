// SPDX-License-Identifier: Apache-2.0

// Limits that the host keeps, and those that it cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"
#include "tests/kernel/cgroup_test.h"
#include "tests/needs.h"
#include "tests/needs_limits.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(CgroupTest, RefusesLimitsThatTheHostCannotKeep) {
  struct Case {
    std::string_view controller;
    Limits limits;
  };
  const Case cases[] = {{"memory", {.memory_bytes = 64 << 20, .pids = {}, .cpus = {}}},
                        {"pids", OnlyPids(8)},
                        {"cpu", {.memory_bytes = {}, .pids = {}, .cpus = 0.5}}};
  for (const Case& test : cases) {
    if (real_.Has(test.controller)) continue;
    const absl::Status status = ParentCgroup::Create(host_, test.limits).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(Message(status)),
                StartsWith(fmt::format("limiting {}: ", test.controller)));
    const auto v1 = std::find_if(real_.v1.begin(), real_.v1.end(), [&](const V1Controller& held) {
      return held.name == test.controller;
    });
    if (v1 != real_.v1.end()) {
      EXPECT_THAT(std::string(Message(status)), HasSubstr(v1->mount));
    }
  }
}

TEST_F(CgroupTest, LimitThatTheParentWasNotMadeForLeavesNoLeaf) {
  const ParentCgroup parent = MakeParent();
  const absl::Status status = parent.MakeLeaf("leaf", OnlyPids(8)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(Message(status)), HasSubstr("pids.max"));
  EXPECT_FALSE(Exists(parent.path() + "/leaf"));
}

// Tests of limits: they need the controller, from the real base down to the test's own.
class CgroupLimitTest : public CgroupTest {
 protected:
  // Skips the test unless `limits` can be kept. What the real base is made to pass on stays so.
  void Require(const Limits& limits) {
    BROOD_NEEDS_LIMITS(limits);
    const UniqueFd base = *OpenDirectoryAt(AT_FDCWD, real_.base.c_str());
    const absl::Status enabled = EnableControllers(base.get(), ControllersFor(limits));
    ASSERT_TRUE(enabled.ok()) << enabled;
  }
};

TEST_F(CgroupLimitTest, PidsLimitStopsForks) {
  const Limits limits = OnlyPids(2);
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  ASSERT_TRUE(parent->MakeLeaf("leaf", limits).ok());
  const pid_t pid = ForkInto(parent->path() + "/leaf", [] {
    if (Fork(Sleep) < 0) return 1;
    return Fork(Sleep) < 0 && errno == EAGAIN ? 0 : 2;
  });
  EXPECT_EQ(ExitCode(pid), 0);
  EXPECT_EQ(TextOf(parent->path() + "/leaf/pids.max"), "2\n");
  if (Exists(parent->path() + "/leaf/pids.peak")) {
    EXPECT_EQ(parent->ReadLeafUsage("leaf").pids_peak, 2U);
  }
}

TEST_F(CgroupLimitTest, MemoryLimitKillsAndIsCounted) {
  const Limits limits{.memory_bytes = 16 << 20, .pids = {}, .cpus = {}};
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  ASSERT_TRUE(parent->MakeLeaf("leaf", limits).ok());
  EXPECT_EQ(TextOf(parent->path() + "/leaf/memory.oom.group"), "1\n");
  const pid_t pid = ForkInto(parent->path() + "/leaf", [] {
    std::vector<char> memory(64 << 20, 'x');
    return memory.back() == 'x' ? 0 : 1;
  });
  EXPECT_TRUE(WasKilled(pid));
  EXPECT_GE(parent->ReadLeafUsage("leaf").oom_kills.value_or(0), 1U);
}

TEST_F(CgroupLimitTest, CpuLimitIsWritten) {
  const Limits limits{.memory_bytes = {}, .pids = {}, .cpus = 0.25};
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  ASSERT_TRUE(parent->MakeLeaf("leaf", limits).ok());
  EXPECT_EQ(TextOf(parent->path() + "/leaf/cpu.max"), "25000 100000\n");
}

TEST_F(CgroupLimitTest, EachLimitIsWrittenAndRead) {
  const Limits limits{.memory_bytes = 64 << 20,
                      .memory_high_bytes = 32 << 20,
                      .pids = 5,
                      .cpus = 0.5,
                      .cpu_period_us = 20'000,
                      .cpu_weight = 50,
                      .cpuset_cpus = "0",
                      .cpuset_mems = "0"};
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  const auto leaf = parent->MakeLeaf("leaf", limits);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  const std::string path = parent->path() + "/leaf/";
  EXPECT_EQ(TextOf(path + "memory.max"), "67108864\n");
  EXPECT_EQ(TextOf(path + "memory.high"), "33554432\n");
  EXPECT_EQ(TextOf(path + "memory.oom.group"), "1\n");
  EXPECT_EQ(TextOf(path + "pids.max"), "5\n");
  EXPECT_EQ(TextOf(path + "cpu.max"), "10000 20000\n");
  EXPECT_EQ(TextOf(path + "cpu.weight"), "50\n");
  EXPECT_EQ(TextOf(path + "cpuset.cpus.effective"), "0\n");
  EXPECT_EQ(TextOf(path + "cpuset.mems.effective"), "0\n");
  const LeafUsage usage = parent->ReadLeafUsage("leaf");
  EXPECT_EQ(usage.cpu_throttled_us, 0U);
  EXPECT_EQ(usage.memory_high_events, 0U);
  EXPECT_EQ(usage.oom_kills, 0U);
  EXPECT_EQ(usage.pids_refused, 0U);
}

// Enabling needs any controller at all; these take the first that the host has.
class CgroupEnableTest : public CgroupTest {
 protected:
  void SetUp() override {
    BROOD_NEEDS_ROOT();  // its own processes are in what an ordinary user was handed
    CgroupTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (real_.controllers.empty()) GTEST_SKIP() << "missing: any cgroup2 controller";
    controller_ = real_.controllers.front();
    const std::string passed = TextOf(real_.base + "/cgroup.subtree_control");
    passed_on_already_ = passed.find(controller_) != std::string::npos;
    ASSERT_TRUE(Enable(real_.base).ok());
  }

  void TearDown() override {
    CgroupTest::TearDown();
    if (controller_.empty() || passed_on_already_) return;
    const UniqueFd base = *OpenDirectoryAt(AT_FDCWD, real_.base.c_str());
    WriteFileAt(base.get(), "cgroup.subtree_control", "-" + controller_);
  }

  absl::Status Enable(const std::string& directory) const {
    BROOD_ASSIGN_OR_RETURN(const UniqueFd fd, OpenDirectoryAt(AT_FDCWD, directory.c_str()));
    const std::string_view controllers[] = {controller_};
    return EnableControllers(fd.get(), controllers);
  }

  std::string controller_;
  bool passed_on_already_ = false;
};

TEST_F(CgroupEnableTest, LauncherAndItsChildrenMoveOutOfTheWay) {
  EXPECT_EQ(ExitCode(ForkInto(host_.base,
                              [&] {
                                const pid_t child = Fork(Sleep);
                                if (!Enable(host_.base).ok() || !Enable(host_.base).ok()) return 1;
                                const auto host = CgroupHost::Discover();
                                if (!host.ok() || host->own != host_.base + "/launcher") return 2;
                                if (host->base != host_.base)
                                  return 3;  // found again from one level down
                                kill(child, SIGKILL);
                                WaitFor(child);
                                return 0;
                              })),
            0);
  EXPECT_THAT(TextOf(host_.base + "/cgroup.subtree_control"), HasSubstr(controller_));
  EXPECT_EQ(TextOf(host_.base + "/cgroup.procs"), "");
}

TEST_F(CgroupEnableTest, StrangersAreNotMoved) {
  const pid_t stranger = ForkInto(host_.base, Sleep);
  EXPECT_EQ(ExitCode(ForkInto(host_.base,
                              [&] {
                                const absl::Status status = Enable(host_.base);
                                const std::string named = fmt::format("process {} in it", stranger);
                                return absl::IsFailedPrecondition(status) &&
                                               Message(status).find(named) != std::string_view::npos
                                           ? 0
                                           : 1;
                              })),
            0);
  EXPECT_FALSE(Exists(host_.base + "/launcher"));
  kill(stranger, SIGKILL);
  EXPECT_TRUE(WasKilled(stranger));
}

}  // namespace
}  // namespace brood
