// SPDX-License-Identifier: Apache-2.0

// Pools whose workers live in slots.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "spawn/base/text_file.h"
#include "spawn/host/process_tree.h"
#include "spawn/host/without.h"
#include "tests/pool/pool_test.h"

namespace brood {

// How often a worker tries to leave something for the next one in its slot.
inline int Tries() {
  const char* const tries = std::getenv("BROOD_SLOT_TRIES");
  return tries == nullptr ? 3 : std::atoi(tries);
}

class SlotTest : public PoolTest {
 protected:
  void SetUp() override {
    PoolTest::SetUp();
    if (Without(Way::kSlots)) GTEST_SKIP() << "needs slots, which BROOD_WITHOUT takes away";
  }

  // One zygote, so that a slot that is free is taken again at once.
  void StartOne(std::uint32_t parked, Spec spec = {}) {
    TemplateOptions options;
    options.spec = std::move(spec);
    options.zygotes = 1;
    Start(parked, std::move(options));
  }

  // Where no worker is parked: until the slots that are made ahead are there and have rested.
  void AwaitSlots() {
    for (int i = 0; i < 500 && pool_->Stats().slots.idle < 2; ++i) usleep(10'000);
    EXPECT_EQ(pool_->Stats().slots.idle, 2U);
    usleep(30'000);
  }

  Outcome RunOn(SpawnPath path, const std::string& script) {
    Request request = GuardedShell(script);
    request.path = path;
    return Run(std::move(request));
  }
  // Until one is in the slot `number`: others may be there before it, since a slot rests.
  Outcome RunInSlot(std::uint32_t number, SpawnPath path, const std::string& script) {
    Outcome outcome;
    for (int i = 0; i < 40 && (i == 0 || outcome.slot->number != number); ++i) {
      usleep(10'000);
      outcome = RunOn(path, script);
      if (!outcome.slot.has_value()) break;
    }
    EXPECT_TRUE(outcome.slot.has_value() && outcome.slot->number == number) << outcome.message;
    return outcome;
  }
  // Those that are there: of workers that have not executed their command, and cloners.
  static std::vector<int> InSlots() {
    std::vector<int> found;
    for (const int pid : ChildrenOf(getpid())) {
      if (FirstLineOf(fmt::format("/proc/{}/comm", pid)) == "brood-slot") found.push_back(pid);
    }
    return found;
  }
  std::uint64_t GivenUp(SlotFault fault) {
    return pool_->Stats().slots.given_up[static_cast<std::size_t>(fault)];
  }
};

}  // namespace brood
