// SPDX-License-Identifier: Apache-2.0

// What a cgroup of its own costs a process: being born there, or being moved there.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "bench/harness/concurrent.h"
#include "bench/measures/bare_clone.h"
#include "bench/measures/favor_dynmods.h"
#include "bench/measures/measures.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/cgroup_host.h"

namespace brood::bench {
namespace {

constexpr char kCgroupFloor[] = "cgroup/none";

enum class Way {
  kNone,  // where its parent is
  kInto,  // clone3 with CLONE_INTO_CGROUP
  kMove,  // cloned, then its pid written to cgroup.procs, then let go
};

struct Case {
  Way way = Way::kInto;
  bool fresh = false;  // a leaf made and removed for each process, or one kept for all
  bool idle = false;   // the kernel waits for RCU when a process is moved after a quiet while
};

// The cgroups of one measurement.
using SharedParent = std::shared_ptr<ParentCgroup>;

absl::StatusOr<SharedParent> MakeParent() {
  BROOD_ASSIGN_OR_RETURN(const CgroupHost host, CgroupHost::Discover());
  BROOD_ASSIGN_OR_RETURN(ParentCgroup parent, ParentCgroup::Create(host, {}));
  return std::make_shared<ParentCgroup>(std::move(parent));
}

// A child that waits for its parent's word before it ends, so that it can be moved meanwhile.
class HeldChild {
 public:
  static absl::StatusOr<HeldChild> Create() {
    HeldChild held;
    BROOD_ASSIGN_OR_RETURN(BareClone clone, BareClone::Create());
    held.clone_.emplace(std::move(clone));
    return held;
  }
  // Shares memory, but its parent does not wait for it: the next one is started when this one has
  // been reaped.
  absl::Status RunMoved(int procs) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
    const UniqueFd hold(ends[0]);
    UniqueFd release(ends[1]);
    clone_->child().hold_fd = hold.get();
    // With the parent's descriptors, or the child would hold the writing end itself.
    BROOD_ASSIGN_OR_RETURN(const pid_t pid, clone_->Start(kernel::kCloneVm | CLONE_FILES));
    const std::string number = std::to_string(pid);
    const ssize_t written = write(procs, number.data(), number.size());
    const int error = errno;
    release.reset();
    BROOD_RETURN_IF_ERROR(clone_->Await(pid));
    return written < 0 ? ErrnoError(error, "moving a process to a cgroup") : absl::OkStatus();
  }

 private:
  std::optional<BareClone> clone_;
};

// Names of leaves differ between the threads that share a parent cgroup.
std::string LeafName() {
  static std::atomic<int> next{0};
  return fmt::format("leaf-{}", next++);
}

absl::StatusOr<UniqueFd> OpenAt(int directory, const std::string& path, int flags) {
  UniqueFd fd(openat(directory, path.c_str(), flags | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "opening {}", path);
  return fd;
}

absl::StatusOr<Once> Prepare(const SharedParent& parent, const Case& wanted) {
  BROOD_ASSIGN_OR_RETURN(BareClone made, BareClone::Create());
  const auto clone = std::make_shared<BareClone>(std::move(made));
  if (wanted.way == Way::kNone) return [clone] { return clone->RunOnce(kLikeVfork); };

  BROOD_ASSIGN_OR_RETURN(HeldChild made_held, HeldChild::Create());
  const auto held = std::make_shared<HeldChild>(std::move(made_held));
  const auto run_in = [parent, clone, held,
                       way = wanted.way](const std::string& leaf) -> absl::Status {
    if (way == Way::kInto) {
      BROOD_ASSIGN_OR_RETURN(const UniqueFd fd, OpenAt(parent->fd(), leaf, O_PATH | O_DIRECTORY));
      return clone->RunOnce(kLikeVfork, fd.get());
    }
    BROOD_ASSIGN_OR_RETURN(const UniqueFd procs,
                           OpenAt(parent->fd(), leaf + "/cgroup.procs", O_WRONLY));
    return held->RunMoved(procs.get());
  };
  const std::string leaf = LeafName();
  if (!wanted.fresh) {
    BROOD_RETURN_IF_ERROR(parent->MakeLeaf(leaf, {}).status());
    return [run_in, leaf] { return run_in(leaf); };
  }
  return [parent, run_in, leaf]() -> absl::Status {
    BROOD_RETURN_IF_ERROR(parent->MakeLeaf(leaf, {}).status());
    BROOD_RETURN_IF_ERROR(run_in(leaf));
    return parent->RemoveLeaf(leaf);
  };
}

Row CgroupRow(std::string name, const Case& wanted, bool favor) {
  Row row;
  row.name = std::move(name);
  row.run = [wanted, favor](benchmark::State& state, Samples& samples) {
    const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
    if (!host.ok()) return Fail(state, host.status());
    std::optional<FavorDynmods> option;
    if (favor) {
      absl::StatusOr<FavorDynmods> set = FavorDynmods::Set(host->mount);
      if (!set.ok()) return Fail(state, set.status());
      option.emplace(*std::move(set));
    }
    const absl::StatusOr<SharedParent> parent = MakeParent();
    if (!parent.ok()) return Fail(state, parent.status());
    const absl::StatusOr<Once> once = Prepare(*parent, wanted);
    if (!once.ok()) return Fail(state, once.status());
    samples.MeasureAfter(state, wanted.idle ? kQuiet : std::chrono::milliseconds(0), *once);
  };
  return row;
}

// Making an empty leaf and taking it away, with nobody ever in it.
Row LeafRow() {
  Row row;
  row.name = "cgroup/mkdir";
  row.run = [](benchmark::State& state, Samples& samples) {
    const absl::StatusOr<SharedParent> parent = MakeParent();
    if (!parent.ok()) return Fail(state, parent.status());
    samples.MeasurePart(state, [&]() -> absl::StatusOr<double> {
      const std::int64_t start = NowNs();
      if (mkdirat((*parent)->fd(), "leaf", 0755) != 0) return ErrnoError(errno, "making a cgroup");
      const std::int64_t made = NowNs();
      if (unlinkat((*parent)->fd(), "leaf", AT_REMOVEDIR) != 0) {
        return ErrnoError(errno, "removing a cgroup");
      }
      samples.Add("rmdir_us", static_cast<double>(NowNs() - made) / 1e3);
      return static_cast<double>(made - start) / 1e3;
    });
  };
  return row;
}

// Several threads, each with a leaf of its own in one parent cgroup.
Row ConcurrentCgroupRow(const std::string& name, const Case& wanted, int threads) {
  const auto parent = std::make_shared<std::weak_ptr<ParentCgroup>>();
  Row row = ConcurrentRow(fmt::format("{}/concurrency={}", name, threads), threads,
                          [parent, wanted]() -> absl::StatusOr<Once> {
                            // Shared by the threads of one measurement, and gone after it.
                            SharedParent shared = parent->lock();
                            if (shared == nullptr) {
                              BROOD_ASSIGN_OR_RETURN(shared, MakeParent());
                              *parent = shared;
                            }
                            BROOD_ASSIGN_OR_RETURN(Once once, Prepare(shared, wanted));
                            return [shared, once] { return once(); };
                          });
  row.iterations = std::max(10, 40 / threads);
  return row;
}

}  // namespace

std::vector<Row> CgroupRows(const Setup& setup) {
  struct Named {
    const char* name;
    Case wanted;
    const char* note;
  };
  const std::array named = {
      Named{kCgroupFloor, {Way::kNone}, "where its parent is"},
      Named{"cgroup/into", {Way::kInto}, "CLONE_INTO_CGROUP, the same leaf for all"},
      Named{"cgroup/into-fresh", {Way::kInto, true}, "and a leaf made and removed for each"},
      Named{"cgroup/procs", {Way::kMove}, "its pid written to cgroup.procs, the same leaf for all"},
      Named{"cgroup/procs-fresh", {Way::kMove, true}, "and a leaf made and removed for each"},
  };
  std::string obstacle;
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) {
    obstacle = std::string(Message(host.status()));
  } else if (host->base.empty()) {
    obstacle = "there is no cgroup that may be built in";
  }
  std::vector<Row> rows;
  for (const Named& each : named) {
    rows.push_back(CgroupRow(each.name, each.wanted, false));
    rows.back().note = each.note;
    Case idle = each.wanted;
    idle.idle = true;
    rows.push_back(CgroupRow(fmt::format("{}/idle", each.name), idle, false));
    rows.back().note = "20 ms of quiet before each";
    if (each.wanted.way == Way::kNone) continue;
    rows.push_back(CgroupRow(fmt::format("{}/favordynmods", each.name), each.wanted, true));
    rows.push_back(CgroupRow(fmt::format("{}/favordynmods/idle", each.name), idle, true));
    for (std::size_t i = rows.size() - 2; i < rows.size(); ++i) {
      if (host.ok() && host->favordynmods) {
        rows[i].unavailable = "this machine has favordynmods already: so do all other rows";
      } else if (!setup.may_favor_dynmods) {
        rows[i].unavailable =
            "once set it cannot be undone before the next boot, for the whole machine; "
            "--favordynmods allows it";
      }
    }
  }
  for (Row& row : rows) {
    if (row.name.ends_with("/idle")) {
      row.iterations = 10;
      row.warm_ups = 1;
      row.parameters = {{"idle_ms", static_cast<double>(kQuiet.count())}};
    }
    if (row.name != kCgroupFloor)
      row.floor = row.name.ends_with("/idle") ? "cgroup/none/idle" : kCgroupFloor;
    if (row.floor == row.name) row.floor = kCgroupFloor;
  }
  rows.push_back(LeafRow());
  const auto most = static_cast<int>(4 * std::max(1U, std::thread::hardware_concurrency()));
  for (const Named& each : named) {
    for (int threads = 1; threads <= most; threads *= 2) {
      rows.push_back(ConcurrentCgroupRow(each.name, each.wanted, threads));
      rows.back().floor = fmt::format("{}/concurrency={}", kCgroupFloor, threads);
      if (rows.back().floor == rows.back().name) rows.back().floor = kCgroupFloor;
    }
  }
  if (!obstacle.empty()) {
    for (Row& row : rows) row.unavailable = obstacle;
  }
  return rows;
}

}  // namespace brood::bench
