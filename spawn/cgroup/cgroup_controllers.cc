// SPDX-License-Identifier: Apache-2.0

#include "spawn/cgroup/cgroup_controllers.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <sstream>

#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/process_tree.h"

namespace brood {
namespace {

bool IsOurs(pid_t pid) {
  const pid_t self = getpid();
  // A process of a pid namespace that we do not see reads as 0: not ours.
  while (pid > 0 && pid != self) pid = ParentOf(pid);
  return pid == self;
}

// Moves all processes of the cgroup to its kLauncherLeaf, if all are ours.
absl::Status Vacate(int directory) {
  // More than one pass only when a process of ours forks meanwhile.
  constexpr int kPasses = 10;
  const std::string leaf(kLauncherLeaf);
  for (int pass = 0; pass < kPasses; ++pass) {
    BROOD_ASSIGN_OR_RETURN(const std::vector<pid_t> members, MemberPids(directory, "."));
    if (members.empty()) return absl::OkStatus();
    const auto stranger = std::find_if_not(members.begin(), members.end(), IsOurs);
    if (stranger != members.end()) {
      return Error(absl::StatusCode::kFailedPrecondition,
                   "enabling controllers in the cgroup {}: it must hold no processes, and process "
                   "{} in it was not started by this one; start brood in a cgroup of its own "
                   "(systemd-run --user --scope -p Delegate=yes, or a unit with Delegate=yes)",
                   PathOfFd(directory), *stranger);
    }
    if (mkdirat(directory, leaf.c_str(), 0755) != 0 && errno != EEXIST) {
      const int error = errno;
      return ErrnoError(error, "making {}/{} for the launcher itself", PathOfFd(directory), leaf);
    }
    for (const pid_t member : members) {
      const int error =
          WriteFileAt(directory, (leaf + "/cgroup.procs").c_str(), std::to_string(member));
      if (error != 0 && error != ESRCH) {  // ESRCH: it has exited, which is as good
        return ErrnoError(error, "moving process {} into {}/{}", member, PathOfFd(directory), leaf);
      }
    }
  }
  return Error(absl::StatusCode::kFailedPrecondition,
               "enabling controllers in the cgroup {}: this process's children keep appearing in "
               "it; make the parent cgroup before starting them",
               PathOfFd(directory));
}

// Only the top of the hierarchy has no cgroup.type, and only it may pass controllers on while it
// holds processes.
bool IsHierarchyTop(int directory) {
  return faccessat(directory, "cgroup.type", F_OK, 0) != 0 && errno == ENOENT;
}

}  // namespace

std::vector<std::string_view> ControllersFor(const Limits& limits) {
  std::vector<std::string_view> controllers;
  if (limits.memory_bytes || limits.memory_high_bytes || limits.swap_bytes) {
    controllers.emplace_back("memory");
  }
  if (limits.pids) controllers.emplace_back("pids");
  if (limits.cpus || limits.cpu_weight) controllers.emplace_back("cpu");
  if (!limits.io.empty() || limits.io_weight) controllers.emplace_back("io");
  if (!limits.cpuset_cpus.empty() || !limits.cpuset_mems.empty()) {
    controllers.emplace_back("cpuset");
  }
  return controllers;
}

Limits LimitsToBeHad(const CgroupHost& host) {
  Limits limits;
  if (host.Has("memory")) limits.memory_bytes = 1;
  if (host.Has("pids")) limits.pids = 1;
  if (host.Has("cpu")) limits.cpus = 1;
  if (host.Has("io")) limits.io_weight = 100;
  if (host.Has("cpuset")) limits.cpuset_cpus.assign(1, '0');
  return limits;
}

absl::Status CheckControllers(const CgroupHost& host, const Limits& limits) {
  for (const std::string_view needed : ControllersFor(limits)) {
    if (host.Has(needed)) continue;
    const auto v1 = std::find_if(host.v1.begin(), host.v1.end(),
                                 [&](const V1Controller& held) { return held.name == needed; });
    if (v1 != host.v1.end()) {
      return Error(absl::StatusCode::kFailedPrecondition,
                   "limiting {0}: the {0} controller is on the v1 hierarchy {1}, not on cgroup2 at "
                   "{2}; boot with systemd.unified_cgroup_hierarchy=1 or cgroup_no_v1={0}, or drop "
                   "the limit",
                   needed, v1->mount, host.mount);
    }
    const std::string has =
        host.controllers.empty() ? "none" : fmt::format("{}", fmt::join(host.controllers, " "));
    return Error(absl::StatusCode::kFailedPrecondition,
                 "limiting {0}: the cgroup {1} does not have the {0} controller (it has: {2}); let "
                 "its parents pass it on (Delegate={0} in its systemd unit), or drop the limit; "
                 "where even the top lacks it, the kernel was built or booted without it",
                 needed, host.base, has);
  }
  return absl::OkStatus();
}

absl::Status EnableControllers(int directory, std::span<const std::string_view> controllers) {
  if (controllers.empty()) return absl::OkStatus();
  std::string text;
  if (const int error = ReadFileAt(directory, "cgroup.subtree_control", text); error != 0) {
    return ErrnoError(error, "reading cgroup.subtree_control of the cgroup {}",
                      PathOfFd(directory));
  }
  std::istringstream words(text);
  std::vector<std::string> enabled;
  for (std::string word; words >> word;) enabled.push_back(word);

  std::string wanted;  // "+memory +pids"
  for (const std::string_view controller : controllers) {
    if (std::find(enabled.begin(), enabled.end(), controller) != enabled.end()) continue;
    fmt::format_to(std::back_inserter(wanted), "{}+{}", wanted.empty() ? "" : " ", controller);
  }
  if (wanted.empty()) return absl::OkStatus();
  if (!IsHierarchyTop(directory)) BROOD_RETURN_IF_ERROR(Vacate(directory));
  if (const int error = WriteFileAt(directory, "cgroup.subtree_control", wanted); error != 0) {
    return ErrnoError(error, "writing {} to {}/cgroup.subtree_control", wanted,
                      PathOfFd(directory));
  }
  return absl::OkStatus();
}

}  // namespace brood
