// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/cgroup_host.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <tuple>
#include <utility>

#include "spawn/base/file_at.h"
#include "spawn/base/paths.h"
#include "spawn/base/split.h"
#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/host/mountinfo.h"
#include "spawn/host/without.h"

namespace brood {
namespace {

// The path in the "0::PATH" line; empty when there is none.
std::string_view OwnCgroup(std::string_view self_cgroup) {
  for (std::string_view line : Split(self_cgroup, '\n')) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return {};
}

// A path that climbs out of our cgroup namespace: the kernel shows it as "/../..".
bool LeavesNamespace(std::string_view path) { return path == "/.." || path.starts_with("/../"); }

// The directory of cgroup `own` when `root` is what is seen at `point`; empty when not below it.
std::string DirectoryOf(std::string_view own, std::string_view root, std::string_view point) {
  if (own.empty() || LeavesNamespace(own) || LeavesNamespace(root)) return {};
  if (!IsUnder(own, root)) return {};
  const std::string_view below = PathBelow(own, root);
  return fmt::format("{}{}{}", point, below.empty() ? "" : "/", below);
}

// Super options of a v1 hierarchy that are not names of controllers.
bool IsV1Option(std::string_view option) {
  static constexpr std::string_view kOptions[] = {
      "rw", "ro", "none", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"};
  return std::find(std::begin(kOptions), std::end(kOptions), option) != std::end(kOptions) ||
         option.find('=') != std::string_view::npos;  // name=, release_agent=
}

// systemd marks what it has delegated. trusted.* is for CAP_SYS_ADMIN to read; user.* came later.
bool IsMarkedDelegated(const std::string& directory) {
  for (const char* attribute : {"trusted.delegate", "user.delegate"}) {
    char value = 0;
    if (getxattr(directory.c_str(), attribute, &value, 1) == 1 && value == '1') return true;
  }
  return false;
}

bool IsWritable(const std::string& directory) {
  return faccessat(AT_FDCWD, directory.c_str(), W_OK, AT_EACCESS) == 0;
}

// See CgroupHost::base. `mount` and `own` are directories; `own` may be empty.
std::string ChooseBase(const std::string& mount, const std::string& own) {
  if (!own.empty() && own != mount) {
    // Our own cgroup first: what was delegated to us is ours, whoever we are.
    if (IsMarkedDelegated(own) && IsWritable(own)) return own;
    const std::size_t slash = own.rfind('/');
    std::string parent = own.substr(0, slash);
    const bool moved_by_us = std::string_view(own).substr(slash + 1) == kLauncherLeaf;
    if ((moved_by_us || IsMarkedDelegated(parent)) && IsWritable(parent)) return parent;
  }
  if (geteuid() == 0 && IsWritable(mount)) return mount;
  if (!own.empty() && IsWritable(own)) return own;
  return {};
}

absl::StatusOr<std::string> ReadToFindCgroups(const char* path) {
  std::string text;
  if (const int error = ReadFileAt(AT_FDCWD, path, text); error != 0) {
    return ErrnoError(error, "reading {} to find the cgroups", path);
  }
  return text;
}

}  // namespace

std::string_view CgroupLayoutName(CgroupLayout layout) {
  switch (layout) {
    case CgroupLayout::kNone:
      return "none";
    case CgroupLayout::kHybrid:
      return "hybrid";
    case CgroupLayout::kUnified:
      return "unified";
  }
  return "unknown";
}

CgroupLayout CgroupMounts::layout() const {
  if (v2.empty()) return CgroupLayout::kNone;
  return any_v1 ? CgroupLayout::kHybrid : CgroupLayout::kUnified;
}

CgroupMounts ParseCgroupMounts(std::string_view mountinfo, std::string_view self_cgroup) {
  const std::string_view own = OwnCgroup(self_cgroup);
  CgroupMounts mounts;
  for (const MountLine& line : ParseMountinfo(mountinfo)) {
    if (line.type == "cgroup") {
      mounts.any_v1 = true;
      for (const std::string& option : line.super_options) {
        if (!IsV1Option(option)) mounts.v1.push_back({option, line.point});
      }
    } else if (line.type == "cgroup2") {
      CgroupMount mount;
      mount.point = line.point;
      mount.root = line.root;
      mount.own = DirectoryOf(own, line.root, line.point);
      mount.writable = line.has_option("rw") && line.has_super_option("rw");
      mount.favordynmods = line.has_super_option("favordynmods");
      // Of two mounts on one directory the later one covers the earlier.
      std::erase_if(mounts.v2, [&](const CgroupMount& other) { return other.point == line.point; });
      mounts.v2.push_back(std::move(mount));
    }
  }
  const auto rank = [](const CgroupMount& mount) {
    return std::tuple(mount.own.empty(), !mount.writable, mount.root != "/");
  };
  std::stable_sort(mounts.v2.begin(), mounts.v2.end(),
                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return mounts;
}

bool CgroupHost::Has(std::string_view controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
}

std::string CgroupHost::PlaceFor(std::string_view controller) const {
  for (const V1Controller& hierarchy : v1) {
    if (hierarchy.name == controller) return hierarchy.mount;
  }
  return Has(controller) ? base : std::string();
}

absl::StatusOr<CgroupHost> CgroupHost::Discover() {
  BROOD_ASSIGN_OR_RETURN(const std::string mountinfo, ReadToFindCgroups("/proc/self/mountinfo"));
  BROOD_ASSIGN_OR_RETURN(const std::string self_cgroup, ReadToFindCgroups("/proc/self/cgroup"));
  CgroupMounts mounts = ParseCgroupMounts(mountinfo, self_cgroup);
  // mountinfo also lists what another mount hides; the file system type at the path does not lie.
  std::erase_if(mounts.v2, [](const CgroupMount& seen) {
    struct statfs info {};
    return statfs(seen.point.c_str(), &info) != 0 || info.f_type != CGROUP2_SUPER_MAGIC;
  });

  CgroupHost host;
  host.layout = mounts.layout();
  host.v1 = std::move(mounts.v1);
  host.has_kill = KernelIsAtLeast(5, 14) && !Without(Way::kCgroupKill);
  if (mounts.v2.empty()) return host;
  host.mount = std::move(mounts.v2.front().point);
  host.own = std::move(mounts.v2.front().own);
  host.favordynmods = mounts.v2.front().favordynmods;
  host.base = ChooseBase(host.mount, host.own);

  const std::string file = (host.base.empty() ? host.mount : host.base) + "/cgroup.controllers";
  BROOD_ASSIGN_OR_RETURN(const std::string controllers, ReadToFindCgroups(file.c_str()));
  for (std::string_view line : Split(controllers, '\n')) {
    for (std::string_view name : Split(line, ' ')) host.controllers.emplace_back(name);
  }
  return host;
}

}  // namespace brood
