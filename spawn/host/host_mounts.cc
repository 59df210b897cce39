// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/host_mounts.h"

#include <sys/stat.h>

#include <algorithm>

#include "spawn/base/paths.h"
#include "spawn/host/mountinfo.h"

namespace brood {

std::vector<std::string> MountsOnRoot() {
  const std::vector<MountLine> mounts = ReadOwnMounts();
  // The last of several at "/" is the one that is seen.
  std::string root;
  for (const MountLine& mount : mounts) {
    if (mount.point == "/") root = mount.id;
  }
  std::vector<std::string> points;
  for (const MountLine& mount : mounts) {
    if (mount.parent != root || mount.point == "/") continue;
    if (std::find(points.begin(), points.end(), mount.point) == points.end()) {
      points.push_back(mount.point);
    }
  }
  return points;
}

std::vector<std::string> MountsBelow(std::string_view directory) {
  std::vector<std::string> points;
  for (MountLine& mount : ReadOwnMounts()) {
    if (mount.point != directory && IsUnder(mount.point, directory)) {
      points.push_back(std::move(mount.point));
    }
  }
  std::sort(points.begin(), points.end(),
            [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
  std::vector<std::string> topmost;
  for (std::string& point : points) {
    const bool below = std::any_of(topmost.begin(), topmost.end(),
                                   [&](const std::string& each) { return IsUnder(point, each); });
    if (!below) topmost.push_back(std::move(point));
  }
  return topmost;
}

bool ReachableByOthers(const std::string& path) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    struct stat status = {};
    if (stat(path.substr(0, slash).c_str(), &status) != 0 || (status.st_mode & S_IXOTH) == 0) {
      return false;
    }
  }
  return true;
}

}  // namespace brood
