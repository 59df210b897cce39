// SPDX-License-Identifier: Apache-2.0

// A hundred thousand workers in 64 slots, and nothing that grows. Slow.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "spawn/base/numbers.h"
#include "tests/pool/slots.h"

namespace brood {
namespace {

constexpr std::uint32_t kSlots = 64;
constexpr std::uint32_t kAtOnce = 16;

std::uint32_t Uses() {
  const char* const uses = std::getenv("BROOD_SLOT_USES");
  return uses == nullptr ? 100'000 : static_cast<std::uint32_t>(std::atoi(uses));
}

std::int64_t NumberOf(const std::string& path, const char* key) {
  return static_cast<std::int64_t>(NumberBehind(TextOf(path), key).value_or(0));
}

std::int64_t CountLines(const std::string& path) {
  const std::string text = TextOf(path);
  return std::count(text.begin(), text.end(), '\n');
}

// What leaks would show in.
struct Held {
  std::int64_t descriptors = 0;
  std::int64_t children = 0;
  std::int64_t dying_cgroups = 0;
  std::int64_t keys = 0;
  std::int64_t memory_kb = 0;         // of this process and its zygote
  std::int64_t kernel_memory_kb = 0;  // of the machine
};

class SlotSlowTest : public SlotTest {
 protected:
  static std::int64_t Descriptors() {
    return static_cast<std::int64_t>(NumbersIn("/proc/self/fd").size());
  }

  Held Look() {
    Held held;
    // Namespaces of those that have ended are let go of in quiet moments.
    const auto end = std::chrono::steady_clock::now() + kHang;
    do {
      held.descriptors = Descriptors();
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    } while (held.descriptors != Descriptors() && std::chrono::steady_clock::now() < end);
    held.children = static_cast<std::int64_t>(ChildrenOf(getpid()).size());
    held.dying_cgroups = NumberOf(pool_->CgroupPath() + "/cgroup.stat", "nr_dying_descendants");
    held.keys = CountLines("/proc/keys");
    held.memory_kb = NumberOf("/proc/self/status", "VmRSS:");
    for (const int pid : pool_->ZygotePids()) {
      held.memory_kb += NumberOf(fmt::format("/proc/{}/status", pid), "VmRSS:");
    }
    held.kernel_memory_kb = NumberOf("/proc/meminfo", "SUnreclaim:") +
                            NumberOf("/proc/meminfo", "KernelStack:") +
                            NumberOf("/proc/meminfo", "Percpu:");
    return held;
  }

  void RunAll(std::uint32_t count) {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint32_t running = 0;
    std::uint32_t failed = 0;
    std::string first;
    Request request = GuardedShell("exit 0");
    request.path = SpawnPath::kZygote;
    std::unique_lock lock(mutex);
    for (std::uint32_t i = 0; i < count; ++i) {
      changed.wait(lock, [&] { return running < kAtOnce; });
      ++running;
      lock.unlock();
      const absl::Status status =
          pool_->Submit(request, [&](const absl::StatusOr<Outcome>& outcome) {
            const std::lock_guard guard(mutex);
            --running;
            if (!outcome.ok() || !outcome->ok()) {
              ++failed;
              first = outcome.ok() ? outcome->message : outcome.status().ToString();
            }
            changed.notify_one();
          });
      ASSERT_TRUE(status.ok()) << status;
      lock.lock();
    }
    changed.wait(lock, [&] { return running == 0; });
    EXPECT_EQ(failed, 0U) << first;
  }
};

TEST_F(SlotSlowTest, ManyUsesOfFewSlotsLeaveNothingThatGrows) {
  TemplateOptions options;
  options.zygotes = 1;
  options.max_workers = kSlots;
  Start(0, std::move(options));
  RunAll(Uses() / 5);
  const Held before = Look();
  RunAll(Uses() - Uses() / 5);
  const Held after = Look();

  const PoolStats stats = pool_->Stats();
  EXPECT_EQ(stats.slots.made + stats.slots.reused, Uses());
  EXPECT_LE(stats.slots.made, kSlots) << ToJson(stats.slots).dump();
  EXPECT_LE(after.descriptors, before.descriptors + 16);
  EXPECT_LE(after.children, before.children + kSlots);
  EXPECT_LE(after.dying_cgroups, before.dying_cgroups + kSlots);
  EXPECT_LE(after.keys, before.keys + 16);
  // Twenty bytes for each use are a leak, beside the ring's entries (4 MB), which are first touched
  // one after the other. The kernel's memory is not ours alone.
  EXPECT_LE(after.memory_kb, before.memory_kb + Uses() / 50 + 5L * 1024);
  EXPECT_LE(after.kernel_memory_kb, before.kernel_memory_kb + Uses() / 5 + 32L * 1024);
  RecordProperty("kernel_memory_kb",
                 fmt::format("{} -> {}", before.kernel_memory_kb, after.kernel_memory_kb));
  RecordProperty("memory_kb", fmt::format("{} -> {}", before.memory_kb, after.memory_kb));
}

}  // namespace
}  // namespace brood
