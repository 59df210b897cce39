// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/namespaces.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <type_traits>
#include <utility>

#include "bench/measures/bare_clone.h"
#include "bench/measures/measures.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/machine.h"
#include "spawn/launch/reap.h"

namespace brood::bench {
namespace {

static_assert(kNamespaceCount == std::extent_v<decltype(BareChild::enter)>);

// Why rows with all kinds at once cannot.
std::string ObstacleToAll() {
  for (const NamespaceKind kind : kNamespaceKinds) {
    if (access(fmt::format("/proc/self/ns/{}", NamespaceProcName(kind)).c_str(), F_OK) != 0) {
      return fmt::format("this kernel has no {} namespaces", NamespaceName(kind));
    }
  }
  return "";
}

// Namespaces made ahead. Descriptors hold them, save a pid namespace, which needs a living init:
// hence a process that does nothing else.
class PreparedNamespaces {
 public:
  static absl::StatusOr<std::shared_ptr<const PreparedNamespaces>> Make(std::uint64_t flags) {
    BROOD_ASSIGN_OR_RETURN(BareClone clone, BareClone::Create());
    clone.child().wait_forever = 1;
    BROOD_ASSIGN_OR_RETURN(const pid_t pid, clone.Start(flags));
    // The holder keeps its own mapping of the memory it stands on; ours may go.
    std::shared_ptr<PreparedNamespaces> prepared(new PreparedNamespaces(pid));
    for (const NamespaceKind kind : kNamespaceKinds) {
      const std::string path = fmt::format("/proc/{}/ns/{}", pid, NamespaceProcName(kind));
      UniqueFd& fd = prepared->fds_[static_cast<std::size_t>(kind)];
      fd.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd.valid() && errno != ENOENT) return ErrnoError(errno, "opening {}", path);
    }
    return prepared;
  }
  ~PreparedNamespaces() { KillAndReap(holder_); }
  PreparedNamespaces(const PreparedNamespaces&) = delete;
  PreparedNamespaces& operator=(const PreparedNamespaces&) = delete;

  int fd(NamespaceKind kind) const { return fds_[static_cast<std::size_t>(kind)].get(); }

 private:
  explicit PreparedNamespaces(pid_t holder) : holder_(holder) {}

  pid_t holder_;
  std::array<UniqueFd, kNamespaceCount> fds_;
};
using Prepared = std::shared_ptr<const PreparedNamespaces>;

// A row whose child is born with `clone_flags` and does what `tell` puts down.
Row BareRow(std::string name, std::uint64_t clone_flags, std::function<void(BareChild&)> tell) {
  Row row;
  row.name = std::move(name);
  row.leaves_debt = (clone_flags & kernel::kCloneNewNet) != 0;
  row.run = [clone_flags, tell = std::move(tell)](benchmark::State& state, Samples& samples) {
    absl::StatusOr<BareClone> clone = BareClone::Create();
    if (!clone.ok()) return Fail(state, clone.status());
    if (tell) tell(clone->child());
    samples.Measure(state, [&] { return clone->RunOnce(clone_flags); });
  };
  return row;
}

// A child is born into the pid namespace that its parent has entered for its children, so the
// parent goes there before the clone, and back after it: two setns, both measured.
Row PreparedPidRow(std::string name, Prepared prepared, std::function<void(BareChild&)> tell) {
  Row row;
  row.name = std::move(name);
  row.run = [prepared = std::move(prepared), tell = std::move(tell)](benchmark::State& state,
                                                                     Samples& samples) {
    absl::StatusOr<BareClone> clone = BareClone::Create();
    if (!clone.ok()) return Fail(state, clone.status());
    const UniqueFd own(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
    if (!own.valid()) return Fail(state, ErrnoError(errno, "opening /proc/self/ns/pid"));
    if (tell) tell(clone->child());
    samples.Measure(state, [&]() -> absl::Status {
      const sys::Result there = sys::Setns(prepared->fd(NamespaceKind::kPid), kernel::kCloneNewPid);
      if (there < 0) return ErrnoError(static_cast<int>(-there), "entering a pid namespace");
      absl::Status ran = clone->RunOnce(kLikeVfork);
      const sys::Result back = sys::Setns(own.get(), kernel::kCloneNewPid);
      if (back < 0) return ErrnoError(static_cast<int>(-back), "leaving a pid namespace");
      return ran;
    });
  };
  return row;
}

void Enter(BareChild& child, const PreparedNamespaces& prepared, NamespaceKind kind) {
  child.enter[child.enter_count++] = {prepared.fd(kind), NamespaceFlag(kind)};
}

Row FreshRow(NamespaceKind kind) {
  const std::uint64_t flag = NamespaceFlag(kind);
  // clone3 refuses a time namespace to a child that shares memory. And a cgroup namespace has its
  // root where its maker stands, so brood makes it once the child is in its leaf: by unshare, too.
  if (kind == NamespaceKind::kTime || kind == NamespaceKind::kCgroup) {
    return BareRow(FreshName(kind), kLikeVfork,
                   [flag](BareChild& child) { child.unshare_flags = flag; });
  }
  return BareRow(FreshName(kind), kLikeVfork | flag, nullptr);
}

Row PreparedRow(NamespaceKind kind, const Prepared& prepared) {
  const auto enter = [prepared, kind](BareChild& child) { Enter(child, *prepared, kind); };
  switch (kind) {
    case NamespaceKind::kPid:
      return PreparedPidRow(PreparedName(kind), prepared, nullptr);
    case NamespaceKind::kTime:
      // Refused (EUSERS) to whoever shares memory with another process, so this child is forked.
      return BareRow(PreparedName(kind), 0, enter);
    default:
      return BareRow(PreparedName(kind), kLikeVfork, enter);
  }
}

void AddFreshRows(std::vector<Row>& rows) {
  const auto add = [&](Row row, std::string obstacle) {
    row.unavailable = std::move(obstacle);
    rows.push_back(std::move(row));
  };
  for (const NamespaceKind kind : kNamespaceKinds) add(FreshRow(kind), Obstacle(kind));
  // Its user namespace gives the child the right to all others.
  add(BareRow(kFreshAll, kLikeVfork | kAllByClone,
              [](BareChild& child) { child.unshare_flags = kAllByUnshare; }),
      ObstacleToAll());

  auto map = std::make_shared<const std::string>(fmt::format("0 {} 1\n", geteuid()));
  add(BareRow(kFreshIdMap, kLikeVfork | kernel::kCloneNewUser,
              [map](BareChild& child) {
                child.uid_map = map->data();
                child.uid_map_bytes = map->size();
              }),
      Obstacle(NamespaceKind::kUser));
  add(BareRow(kFreshLoopback, kLikeVfork | kernel::kCloneNewNet,
              [](BareChild& child) { child.loopback = true; }),
      Obstacle(NamespaceKind::kNet));
  add(BareRow(kFreshMounts, kLikeVfork | kernel::kCloneNewNs,
              [](BareChild& child) { child.mounts = true; }),
      Obstacle(NamespaceKind::kMount));
}

// The flags of all namespaces that this kernel has and this process may make without a new user
// namespace.
std::uint64_t FlagsOfOurs() {
  std::uint64_t flags = 0;
  for (const NamespaceKind kind : kNamespaceKinds) {
    if (kind != NamespaceKind::kUser && Obstacle(kind).empty()) flags |= NamespaceFlag(kind);
  }
  return flags;
}

void AddPreparedRows(std::vector<Row>& rows) {
  // Two sets: one owned by a user namespace of its own, which comes with it, and one by ours.
  const absl::StatusOr<Prepared> ours = PreparedNamespaces::Make(FlagsOfOurs());
  const absl::StatusOr<Prepared> apart = ObstacleToAll().empty()
                                             ? PreparedNamespaces::Make(kAllByClone | kAllByUnshare)
                                             : PreparedNamespaces::Make(kernel::kCloneNewUser);
  const auto add = [&](std::string name, std::string obstacle,
                       const absl::StatusOr<Prepared>& prepared,
                       const std::function<Row(const Prepared&)>& make) {
    if (!obstacle.empty()) {
      rows.push_back(UnavailableRow(std::move(name), std::move(obstacle)));
    } else if (!prepared.ok()) {
      rows.push_back(FailingRow(std::move(name), prepared.status()));
    } else {
      rows.push_back(make(*prepared));
    }
  };
  for (const NamespaceKind kind : kNamespaceKinds) {
    add(PreparedName(kind), Obstacle(kind), kind == NamespaceKind::kUser ? apart : ours,
        [kind](const Prepared& prepared) { return PreparedRow(kind, prepared); });
  }
  std::string obstacle = ObstacleToAll();
  if (obstacle.empty()) obstacle = Obstacle(NamespaceKind::kPid);
  add(kPreparedAllButTime, std::move(obstacle), apart, [](const Prepared& prepared) {
    return PreparedPidRow(kPreparedAllButTime, prepared, [prepared](BareChild& child) {
      // The user namespace first: it brings the right to enter the others, which it owns.
      for (const NamespaceKind kind :
           {NamespaceKind::kUser, NamespaceKind::kMount, NamespaceKind::kNet, NamespaceKind::kIpc,
            NamespaceKind::kUts, NamespaceKind::kCgroup}) {
        Enter(child, *prepared, kind);
      }
    });
  });
}

// A network namespace is the dearest: does another one beside it cost what it costs alone?
void AddPairRows(std::vector<Row>& rows) {
  for (const NamespaceKind kind : kNamespaceKinds) {
    if (kind == NamespaceKind::kNet) continue;
    const std::string name =
        fmt::format("{}+{}", FreshName(NamespaceKind::kNet), NamespaceName(kind));
    const std::uint64_t flag = NamespaceFlag(kind);
    const bool by_unshare = kind == NamespaceKind::kTime || kind == NamespaceKind::kCgroup;
    Row row = BareRow(name, kLikeVfork | kernel::kCloneNewNet | (by_unshare ? 0 : flag),
                      [by_unshare, flag](BareChild& child) {
                        if (by_unshare) child.unshare_flags = flag;
                      });
    row.floor = kNamespaceFloor;
    row.unavailable = Obstacle(NamespaceKind::kNet);
    if (row.unavailable.empty()) row.unavailable = Obstacle(kind);
    rows.push_back(std::move(row));
  }
}

}  // namespace

std::string Obstacle(NamespaceKind kind) {
  const std::string path = fmt::format("/proc/self/ns/{}", NamespaceProcName(kind));
  if (access(path.c_str(), F_OK) != 0) return "this kernel has no such namespace";
  if (kind != NamespaceKind::kUser && !ThisMachine().mount_admin) return "needs CAP_SYS_ADMIN";
  return "";
}

std::string FreshName(NamespaceKind kind) {
  return "namespace/fresh/" + std::string(NamespaceName(kind));
}

std::string PreparedName(NamespaceKind kind) {
  return "namespace/prepared/" + std::string(NamespaceName(kind));
}

std::vector<Row> NamespaceRows(const Setup& setup) {
  std::vector<Row> rows;
  rows.push_back(BareRow(kNamespaceFloor, kLikeVfork, nullptr));
  rows.push_back(BareRow(kForkedNamespaceFloor, 0, nullptr));
  AddFreshRows(rows);
  AddPreparedRows(rows);
  for (Row& row : rows) {
    row.brief = true;
    if (row.name == kNamespaceFloor) continue;
    row.floor =
        row.name == PreparedName(NamespaceKind::kTime) ? kForkedNamespaceFloor : kNamespaceFloor;
  }
  AddPairRows(rows);
  Append(rows, NamespaceSweepRows(setup));
  return rows;
}

}  // namespace brood::bench
