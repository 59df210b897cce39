// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <thread>
#include <utility>

#include "bench/harness/concurrent.h"
#include "bench/harness/lab.h"
#include "bench/measures/bare_clone.h"
#include "bench/measures/mount_lab.h"
#include "bench/measures/namespaces.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {
namespace {

// One bare child after the other, each born with `flags`.
absl::StatusOr<Once> PrepareClone(std::uint64_t flags) {
  BROOD_ASSIGN_OR_RETURN(BareClone made, BareClone::Create());
  const auto clone = std::make_shared<BareClone>(std::move(made));
  return [clone, flags] { return clone->RunOnce(kLikeVfork | flags); };
}

void AddConcurrencyRows(std::vector<Row>& rows) {
  struct Swept {
    std::string name;
    std::uint64_t flags;
    std::string obstacle;
  };
  const std::vector<Swept> all = {
      {kNamespaceFloor, 0, ""},
      {FreshName(NamespaceKind::kMount), kernel::kCloneNewNs, Obstacle(NamespaceKind::kMount)},
      {FreshName(NamespaceKind::kPid), kernel::kCloneNewPid, Obstacle(NamespaceKind::kPid)},
      {FreshName(NamespaceKind::kIpc), kernel::kCloneNewIpc, Obstacle(NamespaceKind::kIpc)},
      {FreshName(NamespaceKind::kNet), kernel::kCloneNewNet, Obstacle(NamespaceKind::kNet)},
      {"namespace/fresh/all-but-time", kAllByClone, Obstacle(NamespaceKind::kUser)},
  };
  const auto most = static_cast<int>(4 * std::max(1U, std::thread::hardware_concurrency()));
  for (const Swept& swept : all) {
    for (int threads = 1; threads <= most; threads *= 2) {
      Row row = ConcurrentRow(fmt::format("{}/concurrency={}", swept.name, threads), threads,
                              [flags = swept.flags] { return PrepareClone(flags); });
      row.iterations = std::max(10, 40 / threads);
      row.floor = fmt::format("{}/concurrency={}", kNamespaceFloor, threads);
      if (row.name == row.floor) row.floor = kNamespaceFloor;
      row.leaves_debt = (swept.flags & kernel::kCloneNewNet) != 0;
      row.unavailable = swept.obstacle;
      rows.push_back(std::move(row));
    }
  }
}

// What a mount namespace copies.
void AddMountRows(const Setup& setup, std::vector<Row>& rows) {
  for (const int mounts : {10, 100, 500, 1000, 2000}) {
    const auto once = std::make_shared<Once>();
    Row row = LabRow(
        fmt::format("{}/mounts={}", FreshName(NamespaceKind::kMount), mounts),
        [mounts, scratch = setup.scratch] { return EnterMountLab(scratch, mounts); },
        [once](int warm_ups, int iterations, Series& series) -> absl::Status {
          if (!*once) {
            BROOD_ASSIGN_OR_RETURN(*once, PrepareClone(kernel::kCloneNewNs));
          }
          return MeasureEach(warm_ups, iterations, *once, series);
        });
    row.parameters = {{"mounts", mounts}};
    row.floor = kNamespaceFloor;
    row.iterations = 20;
    row.unavailable = Obstacle(NamespaceKind::kMount);
    rows.push_back(std::move(row));
  }
}

// Making one by unshare, and leaving it again, which undoes it: its only user is gone then. A
// network namespace is only queued for that; see the teardown rows.
void AddUnshareRows(std::vector<Row>& rows) {
  for (const NamespaceKind kind :
       {NamespaceKind::kMount, NamespaceKind::kNet, NamespaceKind::kIpc, NamespaceKind::kUts,
        NamespaceKind::kCgroup, NamespaceKind::kTime}) {
    const auto home = std::make_shared<UniqueFd>();
    const std::string path = fmt::format("/proc/self/ns/{}", NamespaceProcName(kind));
    const auto flag = static_cast<int>(NamespaceFlag(kind));
    Row row = LabRow(
        fmt::format("namespace/unshare/{}", NamespaceName(kind)),
        [home, path] {
          home->reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
          return home->valid() ? absl::OkStatus() : ErrnoError(errno, "opening {}", path);
        },
        [home, flag](int warm_ups, int iterations, Series& series) -> absl::Status {
          for (int i = -warm_ups; i < iterations; ++i) {
            const std::int64_t start = NowNs();
            if (unshare(flag) != 0) return ErrnoError(errno, "unshare");
            const std::int64_t made = NowNs();
            if (setns(home->get(), flag) != 0) return ErrnoError(errno, "setns");
            const std::int64_t left = NowNs();
            if (i < 0) continue;
            series[kLatency].push_back(static_cast<double>(made - start) / 1e3);
            series["destroy_us"].push_back(static_cast<double>(left - made) / 1e3);
          }
          return absl::OkStatus();
        });
    row.leaves_debt = kind == NamespaceKind::kNet;
    row.unavailable = Obstacle(kind);
    rows.push_back(std::move(row));
  }
}

}  // namespace

std::vector<Row> NamespaceSweepRows(const Setup& setup) {
  std::vector<Row> rows;
  AddUnshareRows(rows);
  AddConcurrencyRows(rows);
  AddMountRows(setup, rows);
  return rows;
}

}  // namespace brood::bench
