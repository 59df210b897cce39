// SPDX-License-Identifier: Apache-2.0

#include "tests/pool/leaf_cycle.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "pool/core/leaf_stock.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "tests/needs_limits.h"
#include "tests/slowness.h"

namespace brood {
namespace {

std::uint64_t Descendants(const ParentCgroup& parent, std::string_view key) {
  std::string text;
  EXPECT_EQ(ReadFileAt(parent.fd(), "cgroup.stat", text), 0);
  return NumberBehind(text, key).value_or(0);
}

// Born in the leaf, writes some memory, and ends.
void UseLeaf(const ParentCgroup& parent, const std::string& leaf) {
  const UniqueFd cgroup(openat(parent.fd(), leaf.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  clone_args args{};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<std::uint64_t>(cgroup.get());
  const auto pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  ASSERT_GE(pid, 0) << ErrnoText(errno);
  if (pid == 0) {
    static volatile char memory[64 << 10];
    for (std::size_t i = 0; i < sizeof(memory); i += 4096) memory[i] = 1;
    _exit(0);
  }
  int status = -1;
  EXPECT_EQ(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
  EXPECT_EQ(status, 0);
}

void ExpectNew(const ParentCgroup& parent, const std::string& leaf, const Spec& spec) {
  // Since Linux 7 one that was reaped leaves once its processor has turned to something else.
  const auto end = std::chrono::steady_clock::now() + Patience(std::chrono::seconds(2));
  while (*parent.LeafPopulated(leaf) && std::chrono::steady_clock::now() < end) sched_yield();
  EXPECT_EQ(*parent.LeafPopulated(leaf), false);
  EXPECT_EQ(*parent.LeafFrozen(leaf), false);
  if (!spec.limits.any()) return;  // such a leaf's counts are told to nobody
  const LeafUsage usage = parent.ReadLeafUsage(leaf);
  EXPECT_EQ(usage.cpu_us.value_or(0), 0U);
  EXPECT_EQ(usage.memory_peak_bytes.value_or(0), 0U);
  EXPECT_EQ(usage.pids_peak.value_or(0), 0U);
  EXPECT_EQ(usage.pids_refused.value_or(0), 0U);
  EXPECT_EQ(usage.oom_events.value_or(0), 0U);
  EXPECT_EQ(usage.oom_kills.value_or(0), 0U);
  std::string text;
  if (spec.limits.pids) {
    EXPECT_EQ(ReadFileAt(parent.fd(), (leaf + "/pids.max").c_str(), text), 0);
    EXPECT_EQ(text, std::to_string(*spec.limits.pids) + "\n");
  }
  if (spec.limits.memory_bytes) {
    EXPECT_EQ(ReadFileAt(parent.fd(), (leaf + "/memory.max").c_str(), text), 0);
    EXPECT_EQ(text, std::to_string(*spec.limits.memory_bytes) + "\n");
  }
}

}  // namespace

void CycleLeaves(const Spec& spec, int count) {
  BROOD_NEEDS_LIMITS(spec.limits);
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  ASSERT_TRUE(host.ok()) << host.status();
  const absl::StatusOr<ParentCgroup> parent = ParentCgroup::Create(*host, spec.limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  LeafStock stock(&*parent, "t-", spec);
  std::uint64_t most = 0;
  std::uint64_t most_dying = 0;
  for (int i = 0; i < count; ++i) {
    const absl::StatusOr<std::string> leaf = stock.Take();
    ASSERT_TRUE(leaf.ok()) << leaf.status() << " after " << i;
    if (i < 100 || i % 100 == 0) ExpectNew(*parent, *leaf, spec);
    UseLeaf(*parent, *leaf);
    if (::testing::Test::HasFatalFailure()) return;
    stock.Return(*leaf, /*empty=*/true);
    if (i % 100 != 0) continue;
    most = std::max(most, Descendants(*parent, "nr_descendants"));
    most_dying = std::max(most_dying, Descendants(*parent, "nr_dying_descendants"));
  }
  ::testing::Test::RecordProperty("most_dying", std::to_string(most_dying));
  // One in use, and one that a zombie may keep for a moment.
  EXPECT_LE(most, 2U);
  // What the kernel has not got round to. It does so in batches, and never behind by as much as a
  // second's worth.
  EXPECT_LT(most_dying, 1000U);
  const auto end = std::chrono::steady_clock::now() + Patience(std::chrono::seconds(20));
  while (Descendants(*parent, "nr_dying_descendants") > 10 &&
         std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_LE(Descendants(*parent, "nr_dying_descendants"), 10U) << "of " << count;
}

}  // namespace brood
