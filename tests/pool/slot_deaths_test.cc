// SPDX-License-Identifier: Apache-2.0

// Cloners that are killed, and zygotes whose cloners live on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/slots.h"

namespace brood {
namespace {

using std::chrono::milliseconds;

class SlotDeathTest : public SlotTest {};

TEST_F(SlotDeathTest, AClonerKilledWhileItsSlotIsFreeCostsItsNamespacesAlone) {
  StartOne(0);
  for (int i = 0; i < 5; ++i) {
    const Outcome first = RunOn(SpawnPath::kZygote, "exit 0");
    ASSERT_TRUE(first.ok()) << first.message;
    for (const int pid : InSlots()) kill(pid, SIGKILL);
    usleep(30'000);
    const Outcome next = RunOn(SpawnPath::kZygote, "exit 0");
    ASSERT_TRUE(next.ok()) << next.message;
    EXPECT_EQ(next.slot->used, 0U);
  }
}

// At whatever step: a worker, a cloner that has been ordered one, or one that has cloned it.
TEST_F(SlotDeathTest, ProcessesInSlotsKilledAtAnyMomentFailTheirOwnRequestsAlone) {
  StartOne(4);
  std::atomic<bool> stop = false;
  std::thread killer([&] {
    std::mt19937 random(1);
    while (!stop) {
      usleep(static_cast<useconds_t>(500 + random() % 3000));
      const std::vector<int> there = InSlots();
      if (!there.empty()) kill(there[random() % there.size()], SIGKILL);
    }
  });
  int failed = 0;
  for (const SpawnPath path : {SpawnPath::kZygote, SpawnPath::kParked}) {
    Request request = GuardedShell("exit 0");
    request.path = path;
    const std::vector<Outcome> outcomes = RunMany(200, request);
    EXPECT_EQ(outcomes.size(), 200U);
    for (const Outcome& outcome : outcomes) {
      if (outcome.ok()) continue;
      ++failed;
      const bool killed = outcome.end == End::kSignalled && outcome.signal == SIGKILL;
      EXPECT_TRUE(killed || outcome.end == End::kSetupFailed)
          << EndName(outcome.end) << " " << outcome.message;
    }
  }
  stop = true;
  killer.join();
  RecordProperty("failed", failed);
  const Outcome last = RunOn(SpawnPath::kZygote, "exit 0");
  EXPECT_TRUE(last.ok()) << last.message;
}

TEST_F(SlotDeathTest, ClonersEndWithTheirZygote) {
  StartOne(0);
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 4; ++k) ASSERT_TRUE(RunOn(SpawnPath::kZygote, "exit 0").ok());
    const std::vector<int> cloners = InSlots();
    ASSERT_FALSE(cloners.empty());
    const std::uint64_t replaced = pool_->Stats().zygotes_replaced;
    for (const int pid : pool_->ZygotePids()) kill(pid, SIGKILL);
    while (pool_->Stats().zygotes_replaced == replaced)
      std::this_thread::sleep_for(milliseconds(5));
    const Outcome next = RunOn(SpawnPath::kZygote, "exit 0");
    ASSERT_TRUE(next.ok()) << next.message;
    EXPECT_EQ(next.slot->used, 0U);
    for (const int pid : cloners) EXPECT_NE(kill(pid, 0), 0) << pid << " lives on";
  }
}

TEST_F(SlotDeathTest, AZygoteKilledWhileItsClonersWorkLosesNoRequestAndRepeatsNone) {
  const std::string given = fmt::format("/tmp/brood_slot_deaths_{}", getpid());
  std::filesystem::create_directory(given);
  std::filesystem::permissions(given, std::filesystem::perms::all);
  std::ofstream(given + "/runs").flush();
  std::filesystem::permissions(given + "/runs", std::filesystem::perms::all);
  Spec spec;
  spec.binds.push_back({given, "/opt", /*read_only=*/false});
  StartOne(0, spec);
  Request request = GuardedShell("echo ran >>/opt/runs");
  request.path = SpawnPath::kZygote;
  const std::vector<Outcome> outcomes = RunMany(300, request, [&] {
    for (int i = 0; i < 8; ++i) {
      usleep(20'000);
      for (const int pid : pool_->ZygotePids()) kill(pid, SIGKILL);
    }
  });
  EXPECT_EQ(outcomes.size(), 300U);
  for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.ok()) << outcome.message;
  const std::string runs = TextOf(given + "/runs");
  EXPECT_EQ(std::count(runs.begin(), runs.end(), '\n'), 300);
  ASSERT_TRUE(pool_->Shutdown().ok());
  std::filesystem::remove_all(given);
}

TEST_F(SlotDeathTest, AStoppedClonerHoldsUpNobodyElse) {
  StartOne(0);
  AwaitSlots();
  const std::vector<int> cloners = InSlots();
  ASSERT_EQ(cloners.size(), 2U);
  for (const int each : cloners) kill(each, SIGSTOP);
  Request request = GuardedShell("exit 0");
  request.path = SpawnPath::kZygote;
  std::vector<Submitted> held;
  for (std::size_t i = 0; i < cloners.size(); ++i) {
    auto submitted = Submit(*pool_, request);
    ASSERT_TRUE(submitted.ok()) << submitted.status();
    held.push_back(*std::move(submitted));
  }
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(RunOn(SpawnPath::kZygote, "exit 0").ok());
  for (auto& each : held) {
    EXPECT_EQ(each.outcome.wait_for(milliseconds(0)), std::future_status::timeout);
  }
  for (const int each : cloners) kill(each, SIGCONT);
  for (auto& each : held) {
    ASSERT_EQ(each.outcome.wait_for(kHang), std::future_status::ready);
    const absl::StatusOr<Outcome> outcome = each.outcome.get();
    EXPECT_TRUE(outcome.ok() && outcome->ok());
  }
}

}  // namespace
}  // namespace brood
