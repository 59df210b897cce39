// SPDX-License-Identifier: Apache-2.0

// What comes after the end: when a process that has ended is really gone, with all it had.
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>

#include "bench/harness/lab.h"
#include "bench/measures/bare_clone.h"
#include "bench/measures/measures.h"
#include "bench/measures/namespaces.h"
#include "spawn/base/clock.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"

namespace brood::bench {
namespace {

constexpr std::chrono::seconds kPatience{10};

// Looks again and again, without sleeping: the moment is what is measured.
absl::Status Until(std::string_view what, const std::function<absl::StatusOr<bool>()>& condition) {
  const std::int64_t deadline = NowNs() + std::chrono::nanoseconds(kPatience).count();
  for (;;) {
    BROOD_ASSIGN_OR_RETURN(const bool come, condition());
    if (come) return absl::OkStatus();
    if (NowNs() > deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded, "{} did not come within 10 s", what);
    }
  }
}

absl::StatusOr<std::uint64_t> DyingDescendants(int parent) {
  std::string text;
  if (const int error = ReadFileAt(parent, "cgroup.stat", text); error != 0) {
    return ErrnoError(error, "reading cgroup.stat");
  }
  const auto dying = NumberBehind(text, "nr_dying_descendants");
  if (!dying)
    return Error(absl::StatusCode::kUnimplemented, "cgroup.stat has no dying descendants");
  return *dying;
}

// One process in a leaf of its own, let go, and then everything that follows.
Row EndRow(std::string name, std::uint64_t clone_flags, std::uint64_t unshare_flags) {
  Row row;
  row.name = std::move(name);
  row.leaves_debt = (clone_flags & kernel::kCloneNewNet) != 0;
  row.note = "from the word to end: reaped (us), cgroup empty, rmdir done, cgroup really gone";
  row.run = [clone_flags, unshare_flags](benchmark::State& state, Samples& samples) {
    const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
    if (!host.ok()) return Fail(state, host.status());
    absl::StatusOr<ParentCgroup> parent = ParentCgroup::Create(*host, {});
    if (!parent.ok()) return Fail(state, parent.status());
    absl::StatusOr<BareClone> clone = BareClone::Create();
    if (!clone.ok()) return Fail(state, clone.status());
    clone->child().unshare_flags = unshare_flags;
    samples.MeasurePart(state, [&]() -> absl::StatusOr<double> {
      BROOD_RETURN_IF_ERROR(parent->MakeLeaf("leaf", {}).status());
      const UniqueFd leaf(openat(parent->fd(), "leaf", O_PATH | O_DIRECTORY | O_CLOEXEC));
      std::array<int, 2> ends{};
      if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
      const UniqueFd hold(ends[0]);
      UniqueFd release(ends[1]);
      clone->child().hold_fd = hold.get();
      BROOD_ASSIGN_OR_RETURN(
          const pid_t pid, clone->Start(kernel::kCloneVm | CLONE_FILES | clone_flags, leaf.get()));
      // What it does before it waits is not its end.
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      BROOD_ASSIGN_OR_RETURN(const std::uint64_t dying, DyingDescendants(parent->fd()));
      const std::int64_t start = NowNs();
      const auto since = [start] { return static_cast<double>(NowNs() - start) / 1e3; };
      release.reset();
      BROOD_RETURN_IF_ERROR(clone->Await(pid));
      const double reaped = since();
      BROOD_RETURN_IF_ERROR(Until("an empty cgroup", [&]() -> absl::StatusOr<bool> {
        BROOD_ASSIGN_OR_RETURN(const bool populated, parent->LeafPopulated("leaf"));
        return !populated;
      }));
      const double populated = since();
      BROOD_RETURN_IF_ERROR(parent->RemoveLeaf("leaf"));
      const double removed = since();
      BROOD_RETURN_IF_ERROR(Until("the end of a removed cgroup", [&]() -> absl::StatusOr<bool> {
        BROOD_ASSIGN_OR_RETURN(const std::uint64_t left, DyingDescendants(parent->fd()));
        return left <= dying;
      }));
      samples.Add("populated_us", populated);
      samples.Add("rmdir_us", removed);
      samples.Add("gone_us", since());
      return reaped;
    });
  };
  if (row.name != "teardown/none") row.floor = "teardown/none";
  return row;
}

// Network namespaces are taken down by a kernel worker, in batches, some time after their last
// process has ended. The kernel counts them per user namespace until that is done: with a limit
// that the dead ones fill, a new one can be made only when they are really gone.
class CountedNamespaces {
 public:
  // For a lab: gives it a user namespace of its own, with a count of its own.
  static absl::Status EnterUserNamespace() {
    return unshare(CLONE_NEWUSER) == 0 ? absl::OkStatus()
                                       : ErrnoError(errno, "making a user namespace");
  }

  static absl::StatusOr<CountedNamespaces> Create() {
    BROOD_ASSIGN_OR_RETURN(BareClone clone, BareClone::Create());
    return CountedNamespaces(std::move(clone));
  }

  // One namespace, whose only process has ended and been reaped when this returns.
  absl::Status MakeOne() { return clone_.RunOnce(kLikeVfork | kernel::kCloneNewNet); }

  absl::Status AwaitAllFreed() {
    BROOD_RETURN_IF_ERROR(SetLimit(1));
    BROOD_RETURN_IF_ERROR(
        Until("the end of dead network namespaces", [&]() -> absl::StatusOr<bool> {
          const absl::Status made = MakeOne();
          if (made.ok()) return true;
          if (!absl::IsResourceExhausted(made)) return made;
          std::this_thread::sleep_for(std::chrono::microseconds(50));
          return false;
        }));
    return SetLimit(1'000'000);
  }

 private:
  explicit CountedNamespaces(BareClone clone) : clone_(std::move(clone)) {}

  static absl::Status SetLimit(int limit) {
    std::ofstream file("/proc/sys/user/max_net_namespaces");
    file << limit << std::flush;
    return file ? absl::OkStatus() : ErrnoError(errno, "setting max_net_namespaces to {}", limit);
  }

  BareClone clone_;
};

absl::Status MeasureFreeing(int count, int iterations, Series& series) {
  BROOD_ASSIGN_OR_RETURN(CountedNamespaces counted, CountedNamespaces::Create());
  BROOD_RETURN_IF_ERROR(counted.AwaitAllFreed());
  for (int i = 0; i < iterations; ++i) {
    // The one that the waiting itself has made is on its way, too.
    BROOD_RETURN_IF_ERROR(counted.AwaitAllFreed());
    const std::int64_t start = NowNs();
    for (int k = 0; k < count; ++k) BROOD_RETURN_IF_ERROR(counted.MakeOne());
    const std::int64_t made = NowNs();
    BROOD_RETURN_IF_ERROR(counted.AwaitAllFreed());
    const std::int64_t freed = NowNs();
    series[kLatency].push_back(static_cast<double>(freed - made) / 1e3);
    series["made_per_s"].push_back(count / (static_cast<double>(made - start) / 1e9));
    series["freed_per_s"].push_back(count / (static_cast<double>(freed - start) / 1e9));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Row> TeardownRows(const Setup&) {
  std::vector<Row> rows;
  rows.push_back(EndRow("teardown/none", 0, 0));
  rows.push_back(EndRow("teardown/mount", kernel::kCloneNewNs, 0));
  rows.push_back(EndRow("teardown/pid", kernel::kCloneNewPid, 0));
  rows.push_back(EndRow("teardown/ipc", kernel::kCloneNewIpc, 0));
  rows.push_back(EndRow("teardown/net", kernel::kCloneNewNet, 0));
  rows.push_back(EndRow("teardown/all", kAllByClone, kAllByUnshare));
  for (const int count : {1, 10, 100, 1000}) {
    Row row =
        LabRow(fmt::format("teardown/net-freed/count={}", count),
               CountedNamespaces::EnterUserNamespace, [count](int, int iterations, Series& series) {
                 return MeasureFreeing(count, iterations, series);
               });
    row.parameters = {{"count", count}};
    row.iterations = count >= 100 ? 1 : 5;
    row.every = count >= 100 ? 3 : 1;
    row.leaves_debt = true;
    row.note =
        "made one after the other, each ended at once; from the last one's end until the "
        "kernel counts none of them any more";
    row.unavailable = Obstacle(NamespaceKind::kNet);
    if (row.unavailable.empty()) row.unavailable = Obstacle(NamespaceKind::kUser);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace brood::bench
