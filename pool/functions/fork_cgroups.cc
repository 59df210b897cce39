// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/fork_cgroups.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>

#include "spawn/base/kernel.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_limits.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/child/syscalls.h"

namespace brood {
namespace {

CgroupDeadline Now() { return std::chrono::steady_clock::now(); }

}  // namespace

absl::StatusOr<ForkCgroups> ForkCgroups::Make(const std::string& parent, const Limits& limits) {
  static std::atomic<std::uint64_t> made = 0;
  ForkCgroups out;
  BROOD_ASSIGN_OR_RETURN(out.parent_, OpenDirectoryAt(AT_FDCWD, parent.c_str()));
  out.name_ = fmt::format("forked-{}", made++);
  out.limits_ = limits;
  BROOD_RETURN_IF_ERROR(MakeCgroup(out.parent_.get(), out.name_));
  const auto fill = [&]() -> absl::Status {
    BROOD_ASSIGN_OR_RETURN(out.directory_, OpenDirectoryAt(out.parent_.get(), out.name_.c_str()));
    BROOD_RETURN_IF_ERROR(EnableControllers(out.directory_.get(), ControllersFor(limits)));
    BROOD_RETURN_IF_ERROR(MakeCgroup(out.directory_.get(), "process"));
    return WriteLimits(out.directory_.get(), "process", limits);
  };
  if (absl::Status filled = fill(); !filled.ok()) {
    out.Remove().IgnoreError();
    return filled;
  }
  return out;
}

absl::Status ForkCgroups::LetBirth(uid_t user) {
  user_ = user;
  if (fchownat(directory_.get(), "cgroup.procs", user, static_cast<gid_t>(-1), 0) == 0) {
    return absl::OkStatus();
  }
  return ErrnoError(errno, "handing {}/cgroup.procs to user {}", PathOfFd(directory_.get()), user);
}

absl::StatusOr<ForkCgroups::Leaf> ForkCgroups::Take() {
  if (!free_.empty()) {
    Leaf leaf = std::move(free_.back());
    free_.pop_back();
    return leaf;
  }
  Leaf leaf{.name = fmt::format("call-{}", made_++), .root = {}};
  const int parent = directory_.get();
  BROOD_RETURN_IF_ERROR(MakeCgroup(parent, leaf.name));
  const auto fill = [&]() -> absl::Status {
    BROOD_RETURN_IF_ERROR(WriteLimits(parent, leaf.name, limits_));
    const std::string members = leaf.name + "/cgroup.procs";
    if (fchownat(parent, members.c_str(), user_, static_cast<gid_t>(-1), 0) != 0) {
      return ErrnoError(errno, "handing {}/{} to user {}", PathOfFd(parent), members, user_);
    }
    const sys::Result root =
        sys::OpenTree(parent, leaf.name.c_str(), kernel::kOpenTreeClone | kernel::kOpenTreeCloexec);
    if (root < 0) {
      return ErrnoError(static_cast<int>(-root), "mounting {}/{} for a call", PathOfFd(parent),
                        leaf.name);
    }
    leaf.root.reset(static_cast<int>(root));
    return absl::OkStatus();
  };
  if (absl::Status filled = fill(); !filled.ok()) {
    unlinkat(parent, leaf.name.c_str(), AT_REMOVEDIR);
    return filled;
  }
  return leaf;
}

void ForkCgroups::Return(Leaf leaf, bool clean) {
  if (clean && !limits_.any() && free_.size() < kMostFree) {
    free_.push_back(std::move(leaf));
    return;
  }
  used_up_.push_back(std::move(leaf.name));
  leaf.root.reset();
  Sweep();
}

// Those in which somebody is still dying are tried again with the next one.
void ForkCgroups::Sweep() {
  std::erase_if(used_up_, [&](const std::string& name) {
    return RemoveTree(directory_.get(), name, Now()).ok();
  });
}

absl::Status ForkCgroups::Kill(const Leaf& leaf) const {
  return KillTree(directory_.get(), leaf.name, Now() + ParentCgroup::kSettleTime);
}

LeafUsage ForkCgroups::Usage(const Leaf& leaf) const {
  return limits_.any() ? ReadUsage(directory_.get(), leaf.name) : LeafUsage{};
}

absl::Status ForkCgroups::Remove() {
  free_.clear();
  if (!parent_.valid()) return absl::OkStatus();
  const absl::Status removed = RemoveTree(parent_.get(), name_, Now());
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

}  // namespace brood
