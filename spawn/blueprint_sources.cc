#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/blueprint_maker.h"
#include "spawn/status.h"

namespace brood {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

bool IsUnder(std::string_view path, std::string_view directory) {
  return path == directory || (path.starts_with(directory) && path.size() > directory.size() &&
                               path[directory.size()] == '/');
}

// Opens `path` with symlinks kept inside `root` (openat2, 5.6), as the worker will see it.
UniqueFd OpenInside(int root, std::string_view path) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const std::string text(path);
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, text.c_str(), &how, sizeof(how))));
}

// Mounts that hang directly on the root mount, in the order they were made. A worker on the host's
// tree gets these, save the ones that tell of the host, hold its sockets, or that brood replaces:
// what is never attached can never be uncovered, and need not be copied for each worker.
std::vector<std::string> HostMounts() {
  std::vector<std::string> points;
  std::string root_id;
  std::ifstream mountinfo("/proc/self/mountinfo");
  std::string line;
  std::vector<std::array<std::string, 2>> found;  // parent id, mount point
  while (std::getline(mountinfo, line)) {
    std::istringstream fields(line);
    std::string id;
    std::string parent;
    std::string device;
    std::string subtree;
    std::string point;
    fields >> id >> parent >> device >> subtree >> point;
    if (point == "/") root_id = id;
    found.push_back({parent, point});
  }
  for (const auto& [parent, point] : found) {
    const bool replaced = IsUnder(point, "/proc") || IsUnder(point, "/dev") ||
                          IsUnder(point, "/run") || IsUnder(point, "/tmp") ||
                          IsUnder(point, "/sys");
    // A mount point with a space or a backslash is written escaped; such are left out.
    if (parent != root_id || point == "/" || replaced || point.find('\\') != std::string::npos) {
      continue;
    }
    if (std::find(points.begin(), points.end(), point) == points.end()) points.push_back(point);
  }
  return points;
}

}  // namespace

absl::Status BlueprintMaker::OpenRootSource() {
  const bool host = spec_.root.mode == RootMode::kHostReadOnly;
  const std::string path = host ? "/" : spec_.root.directory;
  UniqueFd root(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoError(errno, "opening the root directory {}", path);
  for (const std::string_view needed : {"/proc", "/dev", "/tmp"}) {
    struct stat status = {};
    const UniqueFd inside = OpenInside(root.get(), needed);
    if (!inside.valid() || fstat(inside.get(), &status) != 0 || !S_ISDIR(status.st_mode)) {
      return Error(absl::StatusCode::kFailedPrecondition,
                   "the root directory {0} has no directory {1}, where the worker's own {1} is "
                   "mounted: make it (mkdir -p {0}{1})",
                   path, needed);
    }
  }
  std::uint64_t attributes = kernel::kMountAttrNosuid | kernel::kMountAttrNodev;
  if (spec_.root.mode != RootMode::kReadWrite) attributes |= kernel::kMountAttrRdonly;
  root_fd_ = root.get();
  AddTreeSource(std::move(root), path, attributes, /*idmap=*/!host, /*recursive=*/!host);
  // Without privilege the child copies the tree from its own namespace, where every submount is
  // locked to its parent: all or nothing.
  if (!host || !machine_.mount_admin) return absl::OkStatus();
  std::vector<std::string> mounts = HostMounts();
  mounts.emplace_back("/sys");
  for (std::string& mount : mounts) {
    UniqueFd fd(open(mount.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.valid()) continue;  // gone, or not for us to see
    host_mounts_.push_back({tree_count_, mount});
    const bool recursive = mount != "/sys";
    AddTreeSource(std::move(fd), std::move(mount), attributes, /*idmap=*/false, recursive);
  }
  return absl::OkStatus();
}

absl::Status BlueprintMaker::OpenBindSources() {
  for (const Bind& bind : spec_.binds) {
    UniqueFd source(open(bind.source.c_str(), O_PATH | O_CLOEXEC));
    struct stat status = {};
    if (!source.valid() || fstat(source.get(), &status) != 0) {
      return ErrnoError(errno, "opening {}, to be bound on {}", bind.source, bind.target);
    }
    const bool directory = S_ISDIR(status.st_mode);
    BROOD_RETURN_IF_ERROR(CheckTarget(bind.target, directory, "bind " + bind.source + " on"));
    if (shared_ == PlanBuilder::kTmpl && UnderPrivateTmpfs(bind.target)) {
      return Error(absl::StatusCode::kUnimplemented,
                   "a template cannot bind on {}: it lies below a tmpfs that each worker mounts "
                   "for itself; choose a target outside /tmp and the --tmpfs mounts",
                   bind.target);
    }
    std::uint64_t attributes = kernel::kMountAttrNosuid;
    if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode)) {
      attributes |= kernel::kMountAttrNodev;
    }
    if (bind.read_only) attributes |= kernel::kMountAttrRdonly;
    binds_.push_back({static_cast<std::uint16_t>(tree_count_), bind.target, directory});
    AddTreeSource(std::move(source), bind.source, attributes, /*idmap=*/true,
                  /*recursive=*/true);
  }
  for (const Tmpfs& tmpfs : spec_.tmpfs) {
    BROOD_RETURN_IF_ERROR(CheckTarget(tmpfs.target, true, "mount a tmpfs on"));
  }
  return absl::OkStatus();
}

void BlueprintMaker::AddTreeSource(UniqueFd fd, std::string path, std::uint64_t attributes,
                                   bool idmap, bool recursive) {
  // The owners of a directory given to the worker appear as the same ids inside. The host's own
  // tree stays foreign: mapped, the worker's root could read what only root may.
  if (idmap && range_ && tree_count_ < kMaxTrees) header_.idmap_trees |= 1ULL << tree_count_;
  out_.tree_sources_.push_back({std::move(fd), std::move(path), attributes, recursive});
  ++tree_count_;
}

// Mounts that brood makes itself, so that a target below them can be made too.
bool BlueprintMaker::UnderPrivateTmpfs(std::string_view target) const {
  if (IsUnder(target, "/tmp")) return true;
  return std::any_of(spec_.tmpfs.begin(), spec_.tmpfs.end(),
                     [&](const Tmpfs& tmpfs) { return IsUnder(target, tmpfs.target); });
}

bool BlueprintMaker::OnOurMounts(std::string_view target) const {
  return UnderPrivateTmpfs(target) || IsUnder(target, "/dev") ||
         (spec_.root.mode == RootMode::kHostReadOnly && IsUnder(target, "/run"));
}

absl::Status BlueprintMaker::CheckTarget(const std::string& target, bool directory,
                                         std::string_view what) {
  if (IsUnder(target, "/proc")) {
    return Error(kInvalid, "cannot {} {}: /proc is the worker's own", what, target);
  }
  const bool own_tmpfs = std::any_of(spec_.tmpfs.begin(), spec_.tmpfs.end(),
                                     [&](const Tmpfs& tmpfs) { return tmpfs.target == target; });
  if (OnOurMounts(target) && !(own_tmpfs && !IsUnder(target, "/tmp") && !IsUnder(target, "/dev"))) {
    return absl::OkStatus();
  }
  struct stat status = {};
  const UniqueFd inside = OpenInside(root_fd_, target);
  if (!inside.valid() || fstat(inside.get(), &status) != 0) {
    return ErrnoError(errno, "cannot {} {} inside the root: make it first", what, target);
  }
  if (S_ISDIR(status.st_mode) != directory) {
    return Error(kInvalid, "cannot {} {} inside the root: it is {}a directory", what, target,
                 directory ? "not " : "");
  }
  return absl::OkStatus();
}

// Trees that have to be copied before the old root is out of reach.
void BlueprintMaker::AddTreesByPath() {
  if (!machine_.mount_admin) {
    for (std::size_t i = 0; i < out_.tree_sources_.size(); ++i) {
      const auto& source = out_.tree_sources_[i];
      const auto index = static_cast<std::uint16_t>(i);
      builder_.Add(shared_, OpCode::kBindPath, Step::kBindPath, {source.path}, 1, 0, index);
      builder_.Add(shared_, OpCode::kTreeAttributes, Step::kTreeAttributes, {source.path},
                   source.attributes, 1, index);
    }
  }
  const bool may_make_nodes =
      machine_.id_ranges && machine_.initial_user && !InUserNamespace(shared_);
  if (!may_make_nodes) AddDeviceTrees();
  if (!spec_.is_new(NamespaceKind::kPid) && new_user_) proc_tree_ = AddHostTree("/proc", true);
}

// Copied by the child, by path.
int BlueprintMaker::AddHostTree(const std::string& path, bool recursive) {
  builder_.Add(shared_, OpCode::kBindPath, Step::kBindPath, {path}, recursive ? 1 : 0, 0,
               static_cast<std::uint16_t>(tree_count_));
  return static_cast<int>(tree_count_++);
}

// The same for a worker that has nothing of the host's before it.
absl::StatusOr<int> BlueprintMaker::OpenHostTree(const std::string& path) {
  UniqueFd source(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!source.valid()) return ErrnoError(errno, "opening {}", path);
  AddTreeSource(std::move(source), path, kernel::kMountAttrNosuid | kernel::kMountAttrNoexec,
                /*idmap=*/false, /*recursive=*/false);
  return static_cast<int>(tree_count_ - 1);
}

}  // namespace brood
