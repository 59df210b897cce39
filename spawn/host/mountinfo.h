// SPDX-License-Identifier: Apache-2.0

// The lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace brood {

// One mount. Paths without the file's escapes; "//deleted" is left at the end of one that is.
struct MountLine {
  std::string id;
  std::string parent;
  std::string root;   // what of the file system is seen at `point`
  std::string point;  // below the root of the process whose file it is
  std::string type;
  std::vector<std::string> options;        // of this mount
  std::vector<std::string> super_options;  // of the file system

  bool has_option(std::string_view option) const;
  bool has_super_option(std::string_view option) const;
};

// In the order of the file, which is mostly the order in which they were made. Lines that are not
// as described are left out. Thread-safe.
std::vector<MountLine> ParseMountinfo(std::string_view text);

// The mounts of this process's namespace below its root. Empty where they cannot be read.
std::vector<MountLine> ReadOwnMounts();

}  // namespace brood
