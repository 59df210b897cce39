// SPDX-License-Identifier: Apache-2.0

// Reading, killing, awaiting and removing cgroups by directory descriptor.
//
// A cgroup is named by the directory that holds it and its name there; "." is the directory
// itself. Nothing is reached by absolute path, nothing follows symlinks, every descriptor is
// close-on-exec. Functions of this header keep no state: any thread may call them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/file_at.h"
#include "spawn/base/unique_fd.h"

namespace brood {

using CgroupDeadline = std::chrono::steady_clock::time_point;

// Opens a directory for reading, so that it can be listed and locked.
absl::StatusOr<UniqueFd> OpenDirectoryAt(int directory, const char* path);

// The names of the cgroups directly in `directory`, in no order.
absl::StatusOr<std::vector<std::string>> ChildNames(int directory);

// The processes of the cgroup, without those below. One outside our pid namespace reads as 0.
// kNotFound when there is no such cgroup, kUnimplemented for a threaded one, whose processes its
// domain above lists.
absl::StatusOr<std::vector<pid_t>> MemberPids(int parent, const std::string& name);

// The path of an open directory, for sentences. Reads /proc; where it cannot, "descriptor N".
std::string PathOfFd(int fd);

// Sends SIGKILL to all in the cgroup and below: by cgroup.kill, one atomic write, since Linux
// 5.14; before that by KillTreeByPid, which takes until `deadline` at most. After cgroup.kill the
// processes are dying, not dead: await them. kNotFound when there is no such cgroup.
absl::Status KillTree(int parent, const std::string& name, CgroupDeadline deadline);

// The way of older kernels: freezes the cgroup, kills each of its processes, and looks again until
// none is left. kDeadlineExceeded when some are left by `deadline`.
absl::Status KillTreeByPid(int parent, const std::string& name, CgroupDeadline deadline);

// Whether a process that is not a zombie is in the cgroup or below. kNotFound when there is no
// such cgroup.
absl::StatusOr<bool> IsPopulated(int parent, const std::string& name);

// Whether the cgroup is frozen: all processes in it are stopped, and new ones before their first
// instruction (Linux 5.2; false before). kNotFound when there is no such cgroup.
absl::StatusOr<bool> IsFrozen(int parent, const std::string& name);

// Sleeps until the cgroup and all below are empty. Woken by the kernel, which sends at most one
// event in 10 ms for a cgroup: for one that was populated a moment ago the wake-up comes late.
// kDeadlineExceeded when it is still populated by `deadline`, kNotFound when there is none.
absl::Status AwaitEmpty(int parent, const std::string& name, CgroupDeadline deadline);

// Removes a cgroup: one rmdir when it is empty and has none below; else those below first, deepest
// first, waiting for dying processes. Holds at most three descriptors however deep the tree is.
// kDeadlineExceeded when something is still populated by `deadline`, kNotFound when there is none.
absl::Status RemoveTree(int parent, const std::string& name, CgroupDeadline deadline);

}  // namespace brood
