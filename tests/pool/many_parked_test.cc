// SPDX-License-Identifier: Apache-2.0

// Ten thousand workers parked at once, and then all of them run. Slow.
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>

#include "pool/pool.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"

namespace brood {
namespace {

constexpr std::uint32_t kWorkers = 10'000;

class ManyParkedTest : public LeavesNothing {};

// What it takes beyond root: memory (260 KB each at most were measured) and process numbers.
std::string WhatIsMissing() {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  long available_kb = 0;
  while (meminfo >> word) {
    if (word == "MemAvailable:") meminfo >> available_kb;
  }
  if (available_kb < 5L << 20) return "5 GiB of free memory";
  std::ifstream pid_max("/proc/sys/kernel/pid_max");
  long numbers = 0;
  pid_max >> numbers;
  if (numbers < 3L * kWorkers) return "kernel.pid_max of 30,000";
  return "";
}

TEST_F(ManyParkedTest, TenThousandParkedThenAllRun) {
  BROOD_NEEDS_ROOT();
  if (const std::string missing = WhatIsMissing(); !missing.empty()) {
    GTEST_SKIP() << "needs " << missing;
  }
  TemplateOptions tmpl;
  tmpl.parked = kWorkers;
  PoolOptions options;
  options.templates.push_back(tmpl);
  auto pool = Pool::Create(options);
  ASSERT_TRUE(pool.ok()) << pool.status();
  const absl::Status parked = (*pool)->AwaitParked("", kWorkers, std::chrono::minutes(10));
  ASSERT_TRUE(parked.ok()) << parked;
  EXPECT_EQ((*pool)->Stats().parked, kWorkers);
  (*pool)->SetParked("", 0);

  std::mutex mutex;
  std::condition_variable changed;
  std::uint32_t done = 0;
  std::uint32_t failed = 0;
  std::string first_failure;
  for (std::uint32_t i = 0; i < kWorkers; ++i) {
    Request request;
    request.command.argv = {"/bin/true"};
    request.command.env = DefaultEnvironment();
    const absl::Status submitted =
        (*pool)->Submit(request, [&](const absl::StatusOr<Outcome>& outcome) {
          const std::lock_guard lock(mutex);
          ++done;
          if (!outcome.ok() || !outcome->ok() || outcome->spawn_path != SpawnPath::kParked) {
            ++failed;
            if (first_failure.empty()) {
              first_failure = outcome.ok() ? outcome->message : outcome.status().ToString();
            }
          }
          changed.notify_one();
        });
    ASSERT_TRUE(submitted.ok()) << submitted;
  }
  {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::minutes(10), [&] { return done == kWorkers; }));
  }
  EXPECT_EQ(failed, 0U) << first_failure;
  const absl::Status ended = (*pool)->Shutdown();
  EXPECT_TRUE(ended.ok()) << ended;
}

}  // namespace
}  // namespace brood
