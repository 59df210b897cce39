#include "spawn/cgroup_host.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>

#include "spawn/cgroup_tree.h"
#include "spawn/machine.h"
#include "spawn/status.h"
#include "spawn/without.h"

namespace brood {
namespace {

// Cuts `text` at each `separator`, without empty pieces. The pieces point into `text`.
std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) pieces.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pieces;
}

bool Contains(const std::vector<std::string_view>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Undoes mountinfo's escapes: space, tab, newline and backslash are written as \ooo.
std::string Unescape(std::string_view text) {
  const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      const int code = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      plain.push_back(static_cast<char>(code));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

// One line of mountinfo, as far as cgroups need it. Views into the line, still escaped.
struct MountLine {
  std::string_view root;
  std::string_view point;
  std::string_view type;
  std::vector<std::string_view> options;        // of this mount
  std::vector<std::string_view> super_options;  // of the file system
};

// proc_pid_mountinfo(5): ID PARENT MAJ:MIN ROOT POINT OPTIONS TAG... - TYPE SOURCE SUPER-OPTIONS
std::optional<MountLine> ParseMountLine(std::string_view line) {
  const std::vector<std::string_view> fields = Split(line, ' ');
  const auto dash = std::find(fields.begin() + std::min<std::ptrdiff_t>(6, std::ssize(fields)),
                              fields.end(), "-");
  if (std::distance(dash, fields.end()) < 4) return std::nullopt;
  return MountLine{fields[3], fields[4], dash[1], Split(fields[5], ','), Split(dash[3], ',')};
}

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
  std::string_view below = own;
  if (root != "/") {
    if (!own.starts_with(root)) return {};
    below.remove_prefix(root.size());
    if (!below.empty() && below.front() != '/') return {};
  }
  if (below == "/") below = {};
  return fmt::format("{}{}", point, below);
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

absl::StatusOr<std::string> ReadText(const char* path) {
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
  for (std::string_view text : Split(mountinfo, '\n')) {
    const std::optional<MountLine> line = ParseMountLine(text);
    if (!line) continue;
    const std::string point = Unescape(line->point);
    if (line->type == "cgroup") {
      mounts.any_v1 = true;
      for (std::string_view option : line->super_options) {
        if (!IsV1Option(option)) mounts.v1.push_back({std::string(option), point});
      }
    } else if (line->type == "cgroup2") {
      CgroupMount mount;
      mount.point = point;
      mount.root = Unescape(line->root);
      mount.own = DirectoryOf(own, mount.root, point);
      mount.writable = Contains(line->options, "rw") && Contains(line->super_options, "rw");
      mount.favordynmods = Contains(line->super_options, "favordynmods");
      // Of two mounts on one directory the later one covers the earlier.
      std::erase_if(mounts.v2, [&](const CgroupMount& other) { return other.point == point; });
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
  BROOD_ASSIGN_OR_RETURN(const std::string mountinfo, ReadText("/proc/self/mountinfo"));
  BROOD_ASSIGN_OR_RETURN(const std::string self_cgroup, ReadText("/proc/self/cgroup"));
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
  BROOD_ASSIGN_OR_RETURN(const std::string controllers, ReadText(file.c_str()));
  for (std::string_view line : Split(controllers, '\n')) {
    for (std::string_view name : Split(line, ' ')) host.controllers.emplace_back(name);
  }
  return host;
}

}  // namespace brood
