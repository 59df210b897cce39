// SPDX-License-Identifier: Apache-2.0

#include "spawn/cgroup/cgroup.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "spawn/base/paths.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_limits.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/limits/limits.h"

namespace brood {
namespace {

using std::chrono::steady_clock;

constexpr char kBroodName[] = "brood";

CgroupDeadline After(std::chrono::milliseconds timeout) { return steady_clock::now() + timeout; }

// Names in a cgroup directory: also no newline, which would break /proc/PID/cgroup.
absl::Status CheckName(std::string_view name) {
  constexpr std::size_t kLongest = 255;  // NAME_MAX
  const bool ok = !name.empty() && name.size() <= kLongest && name != "." && name != ".." &&
                  name.find_first_of(std::string_view("/\n\0", 3)) == std::string_view::npos;
  if (ok) return absl::OkStatus();
  return InvalidError(
      "naming a cgroup leaf '{}': it must be a file name of 1 to {} bytes without '/', "
      "newline and NUL, and neither '.' nor '..'",
      name, kLongest);
}

absl::Status CheckBase(const CgroupHost& host) {
  if (host.layout == CgroupLayout::kNone) {
    return Error(absl::StatusCode::kUnavailable,
                 "making a cgroup: no cgroup2 is mounted; mount one (mount -t cgroup2 none "
                 "/sys/fs/cgroup), or run without cgroups");
  }
  if (host.base.empty()) {
    return Error(absl::StatusCode::kPermissionDenied,
                 "making a cgroup: user {} may write neither its own cgroup {} nor the top of {}; "
                 "{}",
                 geteuid(), host.own.empty() ? "(not visible here)" : host.own, host.mount,
                 geteuid() == 0
                     ? "mount cgroup2 writable (in Docker, --cgroupns private and -v "
                       "/sys/fs/cgroup:/sys/fs/cgroup:rw), or delegate a cgroup to it"
                     : "run brood as systemd-run --user --scope -p Delegate=yes COMMAND, "
                       "or as root with cgroup2 mounted writable");
  }
  return absl::OkStatus();
}

// Locks a directory for as long as the descriptor, or a copy of it in a forked process, is open.
// 0 or an errno; EWOULDBLOCK with LOCK_NB when another has it.
int Lock(int directory, int operation) {
  return TEMP_FAILURE_RETRY(flock(directory, operation)) == 0 ? 0 : errno;
}

// A name that no launcher has, in whatever pid namespace it runs.
std::string UniqueName() {
  std::uint32_t random = 0;
  if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0) {
    // Entropy is missing only early in boot, and what matters here is that names differ.
    random = static_cast<std::uint32_t>(steady_clock::now().time_since_epoch().count());
  }
  return fmt::format("{}-{:08x}", getpid(), random);
}

// EAGAIN is a count of this cgroup or of one above it.
absl::Status MakeError(int error, const std::string& parent, std::string_view name) {
  const std::string limit =
      FullLimit({.call = LimitedCall::kMakeCgroup, .error = error, .cgroup = parent});
  return Error(CodeForErrno(error), "making the cgroup {}/{}: {}{}{}", parent, name,
               ErrnoText(error), limit.empty() ? "" : "; ", limit);
}

// Makes `name` in BASE/brood and returns {BASE/brood, locked exclusively; the new directory}.
struct NewParent {
  UniqueFd brood;
  UniqueFd parent;
};
absl::StatusOr<NewParent> MakeParent(int base, const std::string& name) {
  // Between our mkdir and our lock another launcher may remove BASE/brood as the last one out.
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    // To be searched by all: before Linux 6.13 or so a worker that mounts cgroup2 is asked for that
    // permission on each directory above its own.
    if (mkdirat(base, kBroodName, 0711) != 0 && errno != EEXIST) {
      return MakeError(errno, PathOfFd(base), kBroodName);
    }
    auto brood = OpenDirectoryAt(base, kBroodName);
    if (absl::IsNotFound(brood.status())) continue;
    if (!brood.ok()) return brood.status();
    if (const int error = Lock(brood->get(), LOCK_EX); error != 0) {
      return ErrnoError(error, "locking the cgroup {}/{}", PathOfFd(base), kBroodName);
    }
    if (mkdirat(brood->get(), name.c_str(), 0755) != 0) {
      const int error = errno;
      if (error == ENOENT || error == ENODEV) continue;  // removed before we had the lock
      return MakeError(error, PathOfFd(brood->get()), name);
    }
    // A launcher that looks for leftovers holds the lock on BASE/brood: it never meets a parent
    // cgroup that is there but not locked yet.
    auto parent = OpenDirectoryAt(brood->get(), name.c_str());
    const int error = parent.ok() ? Lock(parent->get(), LOCK_EX | LOCK_NB) : 0;
    if (parent.ok() && error == 0) return NewParent{*std::move(brood), *std::move(parent)};
    unlinkat(brood->get(), name.c_str(), AT_REMOVEDIR);
    if (!parent.ok()) return parent.status();
    return ErrnoError(error, "locking the cgroup {}/{}", PathOfFd(brood->get()), name);
  }
  return Error(absl::StatusCode::kUnavailable,
               "making a cgroup in {}/{}: other launchers removed it {} times meanwhile; try again",
               PathOfFd(base), kBroodName, kAttempts);
}

// Removes BASE/brood, given as a descriptor, if no parent cgroup is left in it. Any error means
// that it is in use, or that another launcher was faster.
void RemoveBroodIfEmpty(int brood) {
  const auto base = OpenDirectoryAt(brood, "..");
  if (base.ok()) unlinkat(base->get(), kBroodName, AT_REMOVEDIR);
}

// A parent cgroup whose launcher is dead, locked by us.
struct Leftover {
  std::string name;
  UniqueFd lock;
};

absl::StatusOr<std::vector<Leftover>> LockLeftovers(int brood, const CgroupHost& host) {
  if (const int error = Lock(brood, LOCK_EX); error != 0) {
    return ErrnoError(error, "locking the cgroup {}", PathOfFd(brood));
  }
  std::vector<Leftover> leftovers;
  BROOD_ASSIGN_OR_RETURN(const std::vector<std::string> names, ChildNames(brood));
  for (const std::string& name : names) {
    // Clearing the parent cgroup that holds this very process would be its end.
    const std::string parent = fmt::format("{}/{}/{}", host.base, kBroodName, name);
    if (IsUnder(host.own, parent)) continue;
    auto fd = OpenDirectoryAt(brood, name.c_str());
    if (absl::IsNotFound(fd.status())) continue;
    if (!fd.ok()) return fd.status();
    if (Lock(fd->get(), LOCK_EX | LOCK_NB) == 0) leftovers.push_back({name, *std::move(fd)});
  }
  // Killing takes a while, and the parent cgroups' own locks are enough for it.
  Lock(brood, LOCK_UN);
  return leftovers;
}

}  // namespace

absl::Status MakeCgroup(int parent, const std::string& name) {
  if (mkdirat(parent, name.c_str(), 0755) == 0) return absl::OkStatus();
  return MakeError(errno, PathOfFd(parent), name);
}

absl::StatusOr<ParentCgroup> ParentCgroup::Create(const CgroupHost& host, const Limits& wanted) {
  BROOD_RETURN_IF_ERROR(CheckBase(host));
  BROOD_RETURN_IF_ERROR(CheckControllers(host, wanted));
  BROOD_ASSIGN_OR_RETURN(const UniqueFd base, OpenDirectoryAt(AT_FDCWD, host.base.c_str()));
  const std::string name = UniqueName();
  BROOD_ASSIGN_OR_RETURN(NewParent made, MakeParent(base.get(), name));
  // From here on the object's destructor takes the parent cgroup away if something fails.
  ParentCgroup parent(std::move(made.brood), std::move(made.parent),
                      fmt::format("{}/{}/{}", host.base, kBroodName, name), name);
  Lock(parent.brood_.get(), LOCK_UN);
  const std::vector<std::string_view> controllers = ControllersFor(wanted);
  for (const int directory : {base.get(), parent.brood_.get(), parent.parent_.get()}) {
    BROOD_RETURN_IF_ERROR(EnableControllers(directory, controllers));
  }
  return parent;
}

absl::StatusOr<int> ParentCgroup::ClearLeftovers(const CgroupHost& host) {
  if (host.base.empty()) return 0;
  BROOD_ASSIGN_OR_RETURN(const UniqueFd base, OpenDirectoryAt(AT_FDCWD, host.base.c_str()));
  const auto brood = OpenDirectoryAt(base.get(), kBroodName);
  if (absl::IsNotFound(brood.status())) return 0;
  if (!brood.ok()) return brood.status();
  BROOD_ASSIGN_OR_RETURN(const std::vector<Leftover> leftovers, LockLeftovers(brood->get(), host));

  const CgroupDeadline deadline = After(kSettleTime);
  absl::Status first_error;
  int cleared = 0;
  for (const Leftover& leftover : leftovers) {
    absl::Status status = KillTree(brood->get(), leftover.name, deadline);
    if (status.ok()) status = RemoveTree(brood->get(), leftover.name, deadline);
    if (status.ok()) {
      ++cleared;
    } else if (!absl::IsNotFound(status)) {  // not found: its launcher removed it just now
      first_error.Update(status);
    }
  }
  RemoveBroodIfEmpty(brood->get());
  if (!first_error.ok()) return first_error;
  return cleared;
}

ParentCgroup::ParentCgroup(UniqueFd brood, UniqueFd parent, std::string path, std::string name)
    : brood_(std::move(brood)),
      parent_(std::move(parent)),
      path_(std::move(path)),
      name_(std::move(name)),
      owner_(getpid()) {}

ParentCgroup& ParentCgroup::operator=(ParentCgroup&& other) noexcept {
  if (this == &other) return *this;
  Remove().IgnoreError();
  brood_ = std::move(other.brood_);
  parent_ = std::move(other.parent_);
  path_ = std::move(other.path_);
  name_ = std::move(other.name_);
  owner_ = other.owner_;
  return *this;
}

// Where Remove fails the lock still goes: the parent cgroup is then a leftover for the next
// launcher.
ParentCgroup::~ParentCgroup() { Remove().IgnoreError(); }

absl::StatusOr<std::string> ParentCgroup::MakeLeaf(std::string_view name,
                                                   const Limits& limits) const {
  BROOD_RETURN_IF_ERROR(CheckName(name));
  std::string leaf(name);
  BROOD_RETURN_IF_ERROR(MakeCgroup(parent_.get(), leaf));
  if (absl::Status status = WriteLimits(parent_.get(), leaf, limits); !status.ok()) {
    unlinkat(parent_.get(), leaf.c_str(), AT_REMOVEDIR);
    return status;
  }
  return leaf;
}

absl::Status ParentCgroup::KillLeaf(std::string_view name) const {
  BROOD_RETURN_IF_ERROR(CheckName(name));
  return KillTree(parent_.get(), std::string(name), After(kSettleTime));
}

absl::StatusOr<bool> ParentCgroup::LeafPopulated(std::string_view name) const {
  BROOD_RETURN_IF_ERROR(CheckName(name));
  return IsPopulated(parent_.get(), std::string(name));
}

absl::StatusOr<bool> ParentCgroup::LeafFrozen(std::string_view name) const {
  BROOD_RETURN_IF_ERROR(CheckName(name));
  return IsFrozen(parent_.get(), std::string(name));
}

absl::Status ParentCgroup::AwaitLeafEmpty(std::string_view name,
                                          std::chrono::milliseconds timeout) const {
  BROOD_RETURN_IF_ERROR(CheckName(name));
  return AwaitEmpty(parent_.get(), std::string(name), After(timeout));
}

absl::Status ParentCgroup::RemoveLeaf(std::string_view name,
                                      std::chrono::milliseconds timeout) const {
  BROOD_RETURN_IF_ERROR(CheckName(name));
  return RemoveTree(parent_.get(), std::string(name), After(timeout));
}

LeafUsage ParentCgroup::ReadLeafUsage(std::string_view name) const {
  if (!CheckName(name).ok()) return {};
  return ReadUsage(parent_.get(), std::string(name));
}

absl::Status ParentCgroup::KillAll() const {
  return KillTree(parent_.get(), ".", After(kSettleTime));
}

absl::Status ParentCgroup::Remove() {
  if (!parent_.valid()) return absl::OkStatus();
  if (owner_ == getpid()) {
    const CgroupDeadline deadline = After(kSettleTime);
    absl::Status status = KillTree(brood_.get(), name_, deadline);
    if (status.ok()) status = RemoveTree(brood_.get(), name_, deadline);
    if (!status.ok() && !absl::IsNotFound(status)) return status;
    RemoveBroodIfEmpty(brood_.get());
  }
  parent_.reset();
  brood_.reset();
  return absl::OkStatus();
}

}  // namespace brood
