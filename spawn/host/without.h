// SPDX-License-Identifier: Apache-2.0

// Kernel features that brood can do without, switched off by the caller: to compare both ways, and
// to test the other one where the kernel has the feature.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "spawn/outcome.h"

namespace brood {

enum class Way : std::uint8_t {
  kCgroupKill,   // "cgroup_kill": cgroup.kill (Linux 5.14); else processes one by one
  kEmptyMounts,  // "empty_mounts": CLONE_EMPTY_MNTNS (7.1); else the host's mounts are copied
  kExecTime,   // "exec_time": exec enters a time namespace (6.2); else the worker is cloned into it
  kIdmap,      // "idmap": idmapped mounts (5.12, tmpfs 6.3); else owners show as nobody
  kMknod,      // "mknod": device nodes of brood's own; else the host's are bound
  kPidfdInfo,  // "pidfd_info": a pidfd keeps the exit code (6.15); else it may be lost
  kSlots,      // "slots": namespaces used again by the next worker; else new ones for each
  kUring,      // "io_uring": io_uring with timed waits (5.11); else epoll
};

// The variable of the environment that names them, separated by commas.
inline constexpr char kWithoutVariable[] = "BROOD_WITHOUT";
inline constexpr std::string_view kAllWays = "all";

struct WayName {
  Way way;
  std::string_view name;    // in the variable
  std::string_view wanted;  // what is taken where the kernel has it
  std::string_view used;    // and what otherwise
};
std::span<const WayName> AllWays();

// Whether a way is not to be taken. The environment is read once; thread-safe.
bool Without(Way way);

// What the variable switches off, for outcomes. io_uring and idmapped mounts are reported where
// they are missed.
std::vector<Fallback> WaysTakenAway();

// kInvalidArgument for a word that names no way, with all of them.
absl::Status CheckWithout();

}  // namespace brood
