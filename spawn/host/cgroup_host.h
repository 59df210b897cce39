// SPDX-License-Identifier: Apache-2.0

// The cgroups of this machine: where cgroup v2 is, and where brood may make cgroups in it.
//
// Hosts come in three kinds. Unified: all is on cgroup2. Hybrid: cgroup2 is mounted beside the v1
// hierarchies, which hold most controllers. Delegated, on either: another program (systemd, a
// container runtime) owns the tree and has handed one subtree over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace brood {

// The cgroup, below a delegated one, that the launcher moves into: only a cgroup without processes
// may pass controllers on ("no internal processes", cgroups(7)).
inline constexpr std::string_view kLauncherLeaf = "launcher";

enum class CgroupLayout : std::uint8_t {
  kNone,     // no cgroup2 mount is visible
  kHybrid,   // cgroup2 beside at least one v1 hierarchy
  kUnified,  // cgroup2 alone
};
// "none", "hybrid", "unified": stable names, used in JSON.
std::string_view CgroupLayoutName(CgroupLayout layout);

// A controller that a v1 hierarchy holds, so that cgroup2 cannot have it.
struct V1Controller {
  std::string name;   // "memory"
  std::string mount;  // where that hierarchy is mounted
};

// One mount of the cgroup2 hierarchy. There is one such hierarchy, but it can be mounted many
// times.
struct CgroupMount {
  std::string point;
  std::string root;  // the cgroup seen at `point`, relative to our cgroup namespace; mostly "/"
  std::string own;   // directory of our own cgroup below `point`; empty when it is not below
  bool writable = false;
  bool favordynmods = false;  // Linux 6.0: cheap migrations, dearer forks
};

// All cgroup mounts of a mount namespace.
struct CgroupMounts {
  std::vector<CgroupMount> v2;  // the most useful first
  std::vector<V1Controller> v1;
  bool any_v1 = false;  // true also for a hierarchy without controllers, as name=systemd

  CgroupLayout layout() const;
};

// Reads the texts of /proc/PID/mountinfo and /proc/PID/cgroup. Pure; lines that it does not
// understand are skipped. Among several cgroup2 mounts one that shows our own cgroup comes first,
// then a writable one, then one that shows the whole hierarchy.
CgroupMounts ParseCgroupMounts(std::string_view mountinfo, std::string_view self_cgroup);

// A snapshot of the calling process's place in the cgroup tree. A plain value.
struct CgroupHost {
  CgroupLayout layout = CgroupLayout::kNone;
  std::string mount;  // mount point of cgroup2; empty with kNone
  std::string own;    // directory of our own cgroup; empty when this mount does not show it
  // Directory of the cgroup in which brood may make others: a delegated one (our own, or its parent
  // when systemd's DelegateSubgroup= or brood itself put us one level down), or, for root, the top
  // of the mount. Empty when there is none.
  std::string base;
  std::vector<std::string> controllers;  // cgroup.controllers of `base`
  std::vector<V1Controller> v1;
  bool favordynmods = false;
  bool has_kill = false;  // cgroup.kill, Linux 5.14; judged by release, the top does not show it

  bool Has(std::string_view controller) const;
  // Where cgroups with this controller can be made: `base` where v2 has it, the v1 hierarchy's top
  // where that has it; empty where it cannot be used here.
  std::string PlaceFor(std::string_view controller) const;

  // Looks at /proc/self and at the cgroup2 mount; changes nothing. A machine without cgroup2, or
  // without a place to make cgroups, is a valid answer. Fails only when /proc or the mount cannot
  // be read.
  static absl::StatusOr<CgroupHost> Discover();
};

}  // namespace brood
