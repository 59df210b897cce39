// SPDX-License-Identifier: Apache-2.0

#include "tests/pool/tiny_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "pool/pool.h"
#include "spawn/base/status.h"
#include "tests/slowness.h"

namespace brood {
namespace {

// The processes in the leaves of a template, by the names that its leaves have.
std::set<int> Members(const std::string& parent, const std::string& prefix) {
  std::set<int> pids;
  for (const auto& leaf : std::filesystem::directory_iterator(parent)) {
    if (!leaf.is_directory() || !leaf.path().filename().string().starts_with(prefix)) continue;
    std::ifstream procs(leaf.path() / "cgroup.procs");
    for (int pid = 0; procs >> pid;) pids.insert(pid);
  }
  return pids;
}

}  // namespace

void RunWithTinyMemory(int tries) {
  constexpr std::uint32_t kParked = 8;
  PoolOptions options;
  options.templates.push_back({.name = "others", .spec = {}, .parked = kParked, .fault = {}});
  // From too little for the first page to just too little for exec.
  const std::uint64_t kKiB[] = {4, 16, 64, 128, 256};
  for (const std::uint64_t kib : kKiB) {
    TemplateOptions tiny{.name = std::to_string(kib), .spec = {}, .parked = 0, .fault = {}};
    tiny.spec.limits.memory_bytes = kib << 10;
    tiny.zygotes = 1;
    options.templates.push_back(tiny);
  }
  auto created = Pool::Create(std::move(options));
  ASSERT_TRUE(created.ok()) << created.status();
  Pool& pool = **created;
  const auto patience = Patience(std::chrono::seconds(60));
  const absl::Status ready = pool.AwaitParked("others", kParked, patience);
  ASSERT_TRUE(ready.ok()) << ready;
  const std::vector<int> zygotes = pool.ZygotePids();
  const std::set<int> parked = Members(pool.CgroupPath(), "0-");
  ASSERT_EQ(parked.size(), kParked);

  int by_oom = 0;
  for (int i = 0; i < tries; ++i) {
    Request request;
    request.template_name = std::to_string(kKiB[i % std::size(kKiB)]);
    request.path = i % 2 == 0 ? SpawnPath::kZygote : SpawnPath::kCold;
    request.command.argv = {"/bin/true"};
    request.command.env = DefaultEnvironment();
    request.command.timeout = patience;
    const absl::StatusOr<Outcome> outcome = pool.Run(std::move(request));
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    // A page or two may come from what the kernel has charged ahead, so the largest can get
    // through.
    EXPECT_TRUE(outcome->end == End::kOom || outcome->end == End::kSetupFailed || outcome->ok())
        << EndName(outcome->end) << " " << outcome->message;
    if (!outcome->limits_met.empty()) ++by_oom;
  }
  EXPECT_GE(by_oom, tries / 2);

  EXPECT_EQ(pool.ZygotePids(), zygotes);
  EXPECT_EQ(Members(pool.CgroupPath(), "0-"), parked);
  const PoolStats stats = pool.Stats();
  EXPECT_EQ(stats.lost_workers, 0U);
  EXPECT_EQ(stats.zygotes_replaced, 0U);
  const absl::Status end = pool.Shutdown(patience);
  EXPECT_TRUE(end.ok()) << end;
}

}  // namespace brood
