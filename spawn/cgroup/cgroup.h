// SPDX-License-Identifier: Apache-2.0

// The cgroups of one launcher: a parent cgroup, and in it one leaf for each worker.
//
//   BASE/brood/                  of all launchers; mode 0711, so that other users find no cgroup
//                                below it to lock
//   BASE/brood/PID-RANDOM        a parent cgroup; its launcher holds an flock on it while it lives
//   BASE/brood/PID-RANDOM/LEAF   the cgroup of one worker
//   BASE/launcher                the launcher itself, where it had to leave BASE to enable
//                                controllers
//
// BASE is CgroupHost::base. A parent cgroup that is not locked was left by a dead launcher.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup_usage.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/spec.h"

namespace brood {

// Makes the cgroup `name` in the directory `parent`. What the kernel refuses is told with the limit
// that is behind it, where there is one.
absl::Status MakeCgroup(int parent, const std::string& name);

// Owns a parent cgroup: takes it away, with all that runs in it, when destroyed. Move-only. Const
// methods may be called by several threads at once, as long as no two work on the same leaf.
//
// A process forked from the launcher must exec or close fd(): the lock is on the open file, which
// it would keep open. Its copy of the object does nothing when destroyed.
class ParentCgroup {
 public:
  // How long Remove, RemoveLeaf and ClearLeftovers wait for dying processes, unless told otherwise.
  static constexpr std::chrono::milliseconds kSettleTime{5000};

  // Makes a parent cgroup whose leaves can have the limits that `wanted` names (its values do not
  // matter), and enables the controllers for that, from the base down. Where the base is delegated
  // and holds this process, that moves this process to BASE/launcher (see EnableControllers).
  // kUnavailable without cgroup2, kPermissionDenied where nothing may be written, and
  // kFailedPrecondition when a controller is missing.
  static absl::StatusOr<ParentCgroup> Create(const CgroupHost& host, const Limits& wanted);

  // Kills and removes all parent cgroups that dead launchers left in `host.base`, save one that
  // this process runs in; returns how many. Takes kSettleTime in all at most. Other launchers may
  // create, clear and remove at the same time. When a parent cgroup cannot be removed the others
  // still are, and the first error is returned.
  static absl::StatusOr<int> ClearLeftovers(const CgroupHost& host);

  ParentCgroup(ParentCgroup&& other) noexcept = default;
  ParentCgroup& operator=(ParentCgroup&& other) noexcept;
  ~ParentCgroup();

  // The parent cgroup's directory: openat(fd(), leaf, O_PATH | O_DIRECTORY) is what
  // CLONE_INTO_CGROUP takes (Linux 5.7). Borrowed; -1 once removed.
  int fd() const { return parent_.get(); }
  // Its absolute path.
  std::string path() const { return path_; }

  // Makes an empty leaf, with limits; returns its name. `name` must be a file name:
  // kInvalidArgument otherwise, kAlreadyExists when it is taken. One syscall without limits.
  absl::StatusOr<std::string> MakeLeaf(std::string_view name, const Limits& limits) const;

  // Sends SIGKILL to all in the leaf and below. They are dying then, not dead: await them.
  absl::Status KillLeaf(std::string_view name) const;

  // Whether any process is left in the leaf or below; zombies do not count.
  absl::StatusOr<bool> LeafPopulated(std::string_view name) const;

  // Whether all in the leaf is frozen, by its own cgroup.freeze or that of one above (Linux 5.2):
  // a process cloned into it does not run. False where the kernel does not say.
  absl::StatusOr<bool> LeafFrozen(std::string_view name) const;

  // Sleeps until the leaf and all below are empty; kDeadlineExceeded when they still are not after
  // `timeout`. See AwaitEmpty on how late the kernel may wake it.
  absl::Status AwaitLeafEmpty(std::string_view name, std::chrono::milliseconds timeout) const;

  // Removes the leaf with all cgroups that its worker made in it. One syscall when it is empty; a
  // leaf with dying processes is awaited, and kDeadlineExceeded after `timeout`. Does not kill.
  absl::Status RemoveLeaf(std::string_view name,
                          std::chrono::milliseconds timeout = kSettleTime) const;

  // What has been used so far: read it when the worker has ended, before RemoveLeaf. All absent
  // for a leaf that is not there.
  LeafUsage ReadLeafUsage(std::string_view name) const;

  // Sends SIGKILL to all in all leaves.
  absl::Status KillAll() const;

  // Kills all, waits for it, removes leaves and parent cgroup, and BASE/brood if that was the last
  // parent cgroup. After an error the parent cgroup is still there, and Remove may be called again.
  // Nothing to do when removed already or moved from.
  absl::Status Remove();

 private:
  ParentCgroup(UniqueFd brood, UniqueFd parent, std::string path, std::string name);

  UniqueFd brood_;   // BASE/brood
  UniqueFd parent_;  // holds the flock
  std::string path_;
  std::string name_;  // in brood_
  pid_t owner_;
};

}  // namespace brood
