#include "spawn/blueprint.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "spawn/advice.h"
#include "spawn/capabilities.h"
#include "spawn/id_ranges.h"
#include "spawn/machine.h"
#include "spawn/plan_builder.h"
#include "spawn/seccomp.h"
#include "spawn/status.h"
#include "spawn/syscalls.h"

namespace brood {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
using List = PlanBuilder::List;

// Where a zygote's home keeps the place to attach a worker's tree (see AddHome).
constexpr std::string_view kHomeStaging = "/mnt";

struct DeviceNode {
  std::string_view name;
  unsigned major;
  unsigned minor;
};
constexpr DeviceNode kDeviceNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                                       {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

// What Docker and podman hide or protect below /proc.
constexpr std::string_view kMaskedFiles[] = {
    "/proc/kcore",       "/proc/keys",          "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/latency_stats", "/proc/interrupts"};
constexpr std::string_view kMaskedDirectories[] = {"/proc/acpi", "/proc/asound", "/proc/scsi"};
constexpr std::string_view kProtected[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/bus",
                                           "/proc/fs", "/proc/irq"};

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

absl::StatusOr<std::string> StagingDirectory() {
  for (const char* candidate : {"/tmp", "/mnt", "/var/tmp", "/run"}) {
    struct stat status = {};
    if (lstat(candidate, &status) == 0 && S_ISDIR(status.st_mode)) return candidate;
  }
  return Error(absl::StatusCode::kFailedPrecondition,
               "none of /tmp, /mnt, /var/tmp and /run is a directory: brood needs one to attach "
               "the new root to");
}

}  // namespace

// Lays out one plan. Each Add... appends the operations of one concern, in the order in which they
// have to run.
class BlueprintMaker {
 public:
  BlueprintMaker(const Spec& spec, PlanKind kind)
      : spec_(spec), kind_(kind), machine_(ThisMachine()) {
    // A zygote prepares mounts only with the privilege to do so; otherwise each worker does it all
    // in its own user namespace, still ahead of the request.
    if (kind == PlanKind::kTemplate && machine_.mount_admin && spec.is_new(NamespaceKind::kMount)) {
      shared_ = PlanBuilder::kTmpl;
    }
    new_user_ = spec.is_new(NamespaceKind::kUser);
    range_ = new_user_ && machine_.id_ranges;
  }

  absl::StatusOr<Blueprint> Make(const FaultInjection& fault) {
    BROOD_RETURN_IF_ERROR(Validate(spec_));
    BROOD_RETURN_IF_ERROR(CheckIds());
    BROOD_ASSIGN_OR_RETURN(kept_capabilities_, CapabilityMask(spec_.capabilities));
    BROOD_RETURN_IF_ERROR(AddJoins());
    AddEarly();
    if (own_time_offsets_) AddTimeOffsets(PlanBuilder::kWorker);
    // A new user namespace leaves the worker with ids nobody maps; files it makes need an owner.
    if (range_) AddIds(PlanBuilder::kWorker, 0, 0, /*keep_capabilities=*/false);
    if (spec_.is_new(NamespaceKind::kMount)) BROOD_RETURN_IF_ERROR(AddMounts());
    AddRlimits();
    BROOD_RETURN_IF_ERROR(AddPrivileges());
    if (builder_.size(PlanBuilder::kWorker) > kMaxOps || tree_count_ > kMaxTrees) {
      return Error(kInvalid, "too many mounts for one worker ({} operations, {} trees)",
                   builder_.size(PlanBuilder::kWorker), tree_count_);
    }
    SetHeader(fault);
    out_.spec_ = spec_;
    out_.kind_ = kind_;
    out_.block_ = builder_.Build(header_, filter_);
    return std::move(out_);
  }

 private:
  struct Part {
    std::size_t tree;
    std::string target;
  };

  bool InUserNamespace(List list) const { return list == PlanBuilder::kWorker && new_user_; }

  absl::Status CheckIds() const {
    if (range_ && (spec_.uid >= kIdsPerRange || spec_.gid >= kIdsPerRange)) {
      return Error(kInvalid, "ids inside go from 0 to {}: {}:{} does not fit", kIdsPerRange - 1,
                   spec_.uid, spec_.gid);
    }
    if (!new_user_ && !machine_.id_ranges &&
        (spec_.uid != machine_.uid || spec_.gid != machine_.gid) &&
        spec_.ns(NamespaceKind::kUser).mode == NamespaceMode::kHost) {
      return Error(absl::StatusCode::kPermissionDenied,
                   "without a user namespace an ordinary user can only stay {}:{}", machine_.uid,
                   machine_.gid);
    }
    return absl::OkStatus();
  }

  absl::Status AddJoins() {
    for (std::size_t i = 0; i < kNamespaceCount; ++i) {
      const auto kind = static_cast<NamespaceKind>(i);
      const NamespaceChoice& choice = spec_.namespaces[i];
      if (choice.mode != NamespaceMode::kJoin) continue;
      UniqueFd fd(open(choice.path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd.valid()) {
        return ErrnoError(errno, "opening the {} namespace {} to join", NamespaceName(kind),
                          choice.path);
      }
      constexpr unsigned long kNsGetNstype = 0xb703;  // NS_GET_NSTYPE, 4.11
      const int type = static_cast<int>(syscall(SYS_ioctl, fd.get(), kNsGetNstype, 0));
      if (type != static_cast<int>(NamespaceFlag(kind))) {
        return Error(kInvalid, "{} is not a {} namespace", choice.path, NamespaceName(kind));
      }
      const auto index = static_cast<std::uint16_t>(out_.namespace_fds_.size());
      out_.namespace_fds_.push_back(std::move(fd));
      const bool alone = kind == NamespaceKind::kMount || kind == NamespaceKind::kTime;
      if (kind == NamespaceKind::kUser) {
        join_user_index_ = index;
      } else if (kind_ == PlanKind::kTemplate) {
        builder_.Add(PlanBuilder::kTmpl, OpCode::kSetns, Step::kJoinNamespace, {choice.path},
                     NamespaceFlag(kind), 0, index);
      } else if (!alone) {
        // Whoever clones joins it first: a pid namespace counts for children only, and a worker in
        // a user namespace of its own may not enter what belongs to the host.
        out_.launcher_joins_.push_back({kind, out_.namespace_fds_.back().get()});
      } else if (new_user_) {
        return Error(kInvalid,
                     "a worker in a user namespace of its own cannot join the {} namespace {}: "
                     "keep the user namespace (--no-user)",
                     NamespaceName(kind), choice.path);
      } else {
        builder_.Add(PlanBuilder::kWorker, OpCode::kSetns, Step::kJoinNamespace, {choice.path},
                     NamespaceFlag(kind), 0, index);
      }
    }
    return absl::OkStatus();
  }

  // What a worker does before its ids are mapped (Plan::early_ops): nothing here makes a file.
  void AddEarly() {
    constexpr List kWorker = PlanBuilder::kWorker;
    UnshareCgroupAndTime();
    if (spec_.is_new(NamespaceKind::kUts) && !spec_.hostname.empty()) {
      builder_.Add(kWorker, OpCode::kHostname, Step::kHostname, {spec_.hostname},
                   spec_.hostname.size());
    }
    if (spec_.is_new(NamespaceKind::kNet)) {
      builder_.Add(kWorker, OpCode::kLoopback, Step::kLoopback);
    }
    builder_.Add(kWorker, OpCode::kNewSession, Step::kNewSession);
    // The default filter forbids every call that could reach a keyring.
    if (spec_.seccomp.mode != SeccompMode::kDefault) {
      builder_.Add(kWorker, OpCode::kNewKeyring, Step::kNewKeyring);
    }
    if (new_user_) AddBounding();
    header_.early_ops = static_cast<std::uint32_t>(builder_.size(kWorker));
  }

  // CLONE_NEWCGROUP at clone would take the parent's cgroup for its root, and CLONE_NEWTIME is
  // refused with CLONE_VM: both are unshared by the worker.
  void UnshareCgroupAndTime() {
    std::uint64_t flags = 0;
    if (spec_.is_new(NamespaceKind::kCgroup)) flags |= kernel::kCloneNewCgroup;
    if (spec_.is_new(NamespaceKind::kTime)) {
      if (!spec_.time_offsets.any()) {
        flags |= kernel::kCloneNewTime;
      } else if (kind_ == PlanKind::kTemplate && machine_.mount_admin) {
        // The offsets file of a process that shares the zygote's memory belongs to the host's
        // root, so the zygote writes it, and its workers inherit the time namespace.
        AddTimeOffsets(PlanBuilder::kTmpl);
      } else {
        own_time_offsets_ = true;
      }
    }
    if (flags != 0) {
      builder_.Add(PlanBuilder::kWorker, OpCode::kUnshare, Step::kUnshare, {"cgroup, time"}, flags);
    }
  }

  void AddTimeOffsets(List list) {
    builder_.Add(list, OpCode::kUnshare, Step::kUnshare, {"time"}, kernel::kCloneNewTime);
    const auto line = [](std::string_view clock, std::chrono::nanoseconds offset) {
      constexpr std::int64_t kSecond = 1'000'000'000;
      std::int64_t seconds = offset.count() / kSecond;
      std::int64_t nanoseconds = offset.count() % kSecond;
      if (nanoseconds < 0) {
        nanoseconds += kSecond;
        --seconds;
      }
      return fmt::format("{} {} {}\n", clock, seconds, nanoseconds);
    };
    builder_.Add(list, OpCode::kTimeOffsets, Step::kTimeOffsets,
                 {line("monotonic", spec_.time_offsets.monotonic) +
                  line("boottime", spec_.time_offsets.boottime)});
  }

  // --- mounts -------------------------------------------------------------------------------

  absl::Status AddMounts() {
    BROOD_RETURN_IF_ERROR(OpenRootSource());
    BROOD_ASSIGN_OR_RETURN(staging_, StagingDirectory());
    BROOD_RETURN_IF_ERROR(OpenBindSources());
    const bool shared = shared_ == PlanBuilder::kTmpl;

    builder_.Add(shared_, OpCode::kMakePrivate, Step::kPrivatePropagation);
    AddTreesByPath();
    if (spec_.root.mode == RootMode::kOverlay) {
      if (shared) {
        AddOverlayParts();
        AddOverlay(std::string(kHomeStaging));
        for (const Part& part : parts_) AddAttach(PlanBuilder::kWorker, part.tree, part.target);
      } else {
        AddOverlay(staging_);
        AddDevAndBinds(PlanBuilder::kWorker);
      }
    } else {
      AddAttach(shared_, 0, staging_);
      AddEnterRoot(shared_, staging_);
      for (const Part& mount : host_mounts_) AddAttach(shared_, mount.tree, mount.target);
      AddDevAndBinds(shared_);
      if (shared) {
        builder_.Add(PlanBuilder::kTmpl, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
        builder_.Add(PlanBuilder::kCopies, OpCode::kBindPath, Step::kCopyTree, {"/"}, 1, 0, 0);
        AddWorkerRoot();
      }
    }
    if (shared) AddHome();
    AddPrivateMounts();
    if (!old_root_stays_) {
      builder_.Add(PlanBuilder::kWorker, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
    }
    return absl::OkStatus();
  }

  // A template's worker enters its copy of the finished tree. Below it stays the zygote's home: an
  // empty directory, and a /proc. A worker that keeps no capability, and whose filter lets it make
  // no namespace to get new ones in, has no way there; for any other the home is taken away.
  void AddWorkerRoot() {
    if (spec_.capabilities.empty() && spec_.seccomp.mode == SeccompMode::kDefault && new_user_) {
      builder_.Add(PlanBuilder::kWorker, OpCode::kEnterTree, Step::kEnterRoot, {"/"}, 0, 0, 0);
      old_root_stays_ = true;
      return;
    }
    AddAttach(PlanBuilder::kWorker, 0, kHomeStaging);
    AddEnterRoot(PlanBuilder::kWorker, kHomeStaging);
  }

  absl::Status OpenRootSource() {
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

  void AddTreeSource(UniqueFd fd, std::string path, std::uint64_t attributes, bool idmap,
                     bool recursive) {
    // The owners of a directory given to the worker appear as the same ids inside. The host's own
    // tree stays foreign: mapped, the worker's root could read what only root may.
    if (idmap && range_ && tree_count_ < kMaxTrees) header_.idmap_trees |= 1ULL << tree_count_;
    out_.tree_sources_.push_back({std::move(fd), std::move(path), attributes, recursive});
    ++tree_count_;
  }

  absl::Status OpenBindSources() {
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

  // Mounts that brood makes itself, so that a target below them can be made too.
  bool UnderPrivateTmpfs(std::string_view target) const {
    if (IsUnder(target, "/tmp")) return true;
    return std::any_of(spec_.tmpfs.begin(), spec_.tmpfs.end(),
                       [&](const Tmpfs& tmpfs) { return IsUnder(target, tmpfs.target); });
  }
  bool OnOurMounts(std::string_view target) const {
    return UnderPrivateTmpfs(target) || IsUnder(target, "/dev") ||
           (spec_.root.mode == RootMode::kHostReadOnly && IsUnder(target, "/run"));
  }

  absl::Status CheckTarget(const std::string& target, bool directory, std::string_view what) {
    if (IsUnder(target, "/proc")) {
      return Error(kInvalid, "cannot {} {}: /proc is the worker's own", what, target);
    }
    const bool own_tmpfs = std::any_of(spec_.tmpfs.begin(), spec_.tmpfs.end(),
                                       [&](const Tmpfs& tmpfs) { return tmpfs.target == target; });
    if (OnOurMounts(target) &&
        !(own_tmpfs && !IsUnder(target, "/tmp") && !IsUnder(target, "/dev"))) {
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
  void AddTreesByPath() {
    if (!machine_.mount_admin) {
      for (std::size_t i = 0; i < out_.tree_sources_.size(); ++i) {
        const auto& source = out_.tree_sources_[i];
        const auto index = static_cast<std::uint16_t>(i);
        builder_.Add(shared_, OpCode::kBindPath, Step::kBindPath, {source.path}, 1, 0, index);
        builder_.Add(shared_, OpCode::kTreeAttributes, Step::kTreeAttributes, {source.path},
                     source.attributes, 1, index);
      }
    }
    const bool may_make_nodes = machine_.id_ranges && !InUserNamespace(shared_);
    if (!may_make_nodes) {
      for (const DeviceNode& node : kDeviceNodes) {
        device_trees_.push_back(AddHostTree(fmt::format("/dev/{}", node.name), false));
      }
    }
    if (!spec_.is_new(NamespaceKind::kPid) && new_user_) proc_tree_ = AddHostTree("/proc", true);
  }

  int AddHostTree(const std::string& path, bool recursive) {
    builder_.Add(shared_, OpCode::kBindPath, Step::kBindPath, {path}, recursive ? 1 : 0, 0,
                 static_cast<std::uint16_t>(tree_count_));
    return static_cast<int>(tree_count_++);
  }

  void AddAttach(List list, std::size_t tree, std::string_view target) {
    builder_.Add(list, OpCode::kAttach, Step::kAttachTree, {target}, 0, 0,
                 static_cast<std::uint16_t>(tree));
  }

  void AddEnterRoot(List list, std::string_view path) {
    builder_.Add(list, OpCode::kEnterRoot, Step::kEnterRoot, {path});
  }

  void AddTmpfs(List list, std::string_view target, std::string_view options,
                std::uint64_t flags = kernel::kMsNosuid | kernel::kMsNodev) {
    builder_.Add(list, OpCode::kMount, Step::kMountTmpfs, {"tmpfs", target, options}, flags);
  }

  void AddDirectory(List list, std::string_view path, std::uint64_t mode) {
    builder_.Add(list, OpCode::kMakeDirectory, Step::kMakeDirectory, {path}, mode);
  }

  void AddFile(List list, std::string_view path) {
    builder_.Add(list, OpCode::kMakeNode, Step::kMakeDevice, {path}, S_IFREG | 0644);
  }

  // A minimal /dev on a tmpfs at `at`.
  void AddDev(List list, const std::string& at) {
    AddTmpfs(list, at, "size=64k,mode=0755", kernel::kMsNosuid | kernel::kMsNoexec);
    for (std::size_t i = 0; i < std::size(kDeviceNodes); ++i) {
      const DeviceNode& node = kDeviceNodes[i];
      const std::string path = fmt::format("{}/{}", at, node.name);
      if (device_trees_.empty()) {
        builder_.Add(list, OpCode::kMakeNode, Step::kMakeDevice, {path}, S_IFCHR | 0666,
                     makedev(node.major, node.minor));
      } else {
        AddFile(list, path);
        AddAttach(list, static_cast<std::size_t>(device_trees_[i]), path);
      }
    }
    const std::array<std::array<std::string_view, 2>, 5> links{{{"fd", "/proc/self/fd"},
                                                                {"stdin", "/proc/self/fd/0"},
                                                                {"stdout", "/proc/self/fd/1"},
                                                                {"stderr", "/proc/self/fd/2"},
                                                                {"ptmx", "pts/ptmx"}}};
    for (const auto& [name, target] : links) {
      builder_.Add(list, OpCode::kMakeSymlink, Step::kMakeSymlink,
                   {fmt::format("{}/{}", at, name), target});
    }
    AddDirectory(list, at + "/pts", 0755);
    AddDirectory(list, at + "/shm", 01777);
    AddDirectory(list, at + "/mqueue", 0755);  // empty; also what masked directories show
  }

  void MakeTargetOnOurMounts(List list, const std::string& target, bool directory) {
    for (std::size_t slash = target.find('/', 1); slash != std::string::npos;
         slash = target.find('/', slash + 1)) {
      AddDirectory(list, target.substr(0, slash), 0755);
    }
    if (directory) {
      AddDirectory(list, target, 0755);
    } else {
      AddFile(list, target);
    }
  }

  void AddDevAndBinds(List list) {
    AddDev(list, "/dev");
    if (spec_.root.mode == RootMode::kHostReadOnly) AddRun(list);
    for (const auto& bind : binds_) {
      if (UnderPrivateTmpfs(bind.target)) continue;  // after that tmpfs: AddPrivateMounts
      if (OnOurMounts(bind.target)) MakeTargetOnOurMounts(list, bind.target, bind.directory);
      AddAttach(list, bind.tree, bind.target);
    }
    if (proc_tree_ >= 0) AddAttach(list, static_cast<std::size_t>(proc_tree_), "/proc");
    ProtectDev(list, "/dev");
  }

  void ProtectDev(List list, std::string_view at) {
    builder_.Add(list, OpCode::kRemount, Step::kRemount, {at},
                 kernel::kMsRdonly | kernel::kMsNosuid | kernel::kMsNoexec);
  }

  // The sockets of the host's services live in /run, and a read-only mount does not keep anyone
  // from connecting.
  void AddRun(List list) { AddTmpfs(list, "/run", "size=1m,mode=0755"); }

  // Mounts the overlay from tree 0 on staging/root and enters it.
  void AddOverlay(const std::string& staging) {
    constexpr List kWorker = PlanBuilder::kWorker;
    AddTmpfs(kWorker, staging, fmt::format("size={},mode=0755", spec_.root.overlay_bytes));
    for (const char* name : {"/lower", "/upper", "/work", "/root"}) {
      AddDirectory(kWorker, staging + name, 0755);
    }
    AddAttach(kWorker, 0, staging + "/lower");
    // userxattr: trusted.* attributes are not for a user namespace (5.11).
    builder_.Add(kWorker, OpCode::kMount, Step::kMountOverlay,
                 {"overlay", staging + "/root",
                  fmt::format("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work{1}", staging,
                              new_user_ ? ",userxattr" : "")},
                 kernel::kMsNosuid | kernel::kMsNodev);
    AddEnterRoot(kWorker, staging + "/root");
  }

  // An overlay is each worker's own, so the template keeps what lies on it as separate parts:
  // directories /0, /1, ... of its tree, copied one by one.
  void AddOverlayParts() {
    constexpr List kTmpl = PlanBuilder::kTmpl;
    AddTmpfs(kTmpl, staging_, "size=1m,mode=0755");
    const auto part = [&](std::size_t tree, const std::string& target, bool directory) {
      std::string place = fmt::format("{}/{}", staging_, tree);
      if (directory) {
        AddDirectory(kTmpl, place, 0755);
      } else {
        AddFile(kTmpl, place);
      }
      if (!target.empty()) parts_.push_back({tree, target});
      builder_.Add(PlanBuilder::kCopies, OpCode::kBindPath, Step::kCopyTree,
                   {fmt::format("/{}", tree)}, 1, 0, static_cast<std::uint16_t>(tree));
      return place;
    };
    AddAttach(kTmpl, 0, part(0, "", true));
    const std::size_t dev = tree_count_++;
    const std::string dev_place = part(dev, "/dev", true);
    AddDev(kTmpl, dev_place);
    ProtectDev(kTmpl, dev_place);
    for (const auto& bind : binds_) {
      AddAttach(kTmpl, bind.tree, part(bind.tree, bind.target, bind.directory));
    }
    if (proc_tree_ >= 0) {
      const auto tree = static_cast<std::size_t>(proc_tree_);
      AddAttach(kTmpl, tree, part(tree, "/proc", true));
    }
    AddEnterRoot(kTmpl, staging_);
    builder_.Add(kTmpl, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
  }

  // The zygote's home: a place to attach a worker's tree to, and a /proc with nothing hidden,
  // without which the kernel lets no user namespace mount its own ("too revealing").
  void AddHome() {
    constexpr List kHome = PlanBuilder::kHome;
    builder_.Add(kHome, OpCode::kMakePrivate, Step::kPrivatePropagation);
    AddTmpfs(kHome, staging_, "size=16k,mode=0755");
    AddDirectory(kHome, staging_ + "/proc", 0555);
    AddDirectory(kHome, staging_ + std::string(kHomeStaging), 0755);
    builder_.Add(kHome, OpCode::kMount, Step::kMountProc, {"proc", staging_ + "/proc"},
                 kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
    AddEnterRoot(kHome, staging_);
    builder_.Add(kHome, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
  }

  // What no two workers may share.
  void AddPrivateMounts() {
    constexpr List kWorker = PlanBuilder::kWorker;
    if (proc_tree_ < 0) {
      builder_.Add(kWorker, OpCode::kMount, Step::kMountProc, {"proc", "/proc"},
                   kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
    }
    AddMasks();
    // gid 5 is tty on Debian and its descendants; it must be mapped to be named.
    builder_.Add(kWorker, OpCode::kMount, Step::kMountDevpts,
                 {"devpts", "/dev/pts",
                  range_ || !new_user_ ? "newinstance,ptmxmode=0666,mode=0620,gid=5"
                                       : "newinstance,ptmxmode=0666,mode=0620"},
                 kernel::kMsNosuid | kernel::kMsNoexec);
    const std::string sticky = fmt::format("size={},mode=1777", spec_.tmp_bytes);
    AddTmpfs(kWorker, "/dev/shm", sticky, kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
    const bool own_tmp = std::any_of(spec_.tmpfs.begin(), spec_.tmpfs.end(),
                                     [](const Tmpfs& tmpfs) { return tmpfs.target == "/tmp"; }) ||
                         std::any_of(spec_.binds.begin(), spec_.binds.end(),
                                     [](const Bind& bind) { return bind.target == "/tmp"; });
    if (!own_tmp) AddTmpfs(kWorker, "/tmp", sticky);
    for (const Tmpfs& tmpfs : spec_.tmpfs) {
      if (OnOurMounts(tmpfs.target) && tmpfs.target != "/tmp") {
        MakeTargetOnOurMounts(kWorker, tmpfs.target, true);
      }
      AddTmpfs(kWorker, tmpfs.target, fmt::format("size={},mode={:04o}", tmpfs.bytes, tmpfs.mode));
    }
    for (const auto& bind : binds_) {
      if (!UnderPrivateTmpfs(bind.target)) continue;
      if (bind.target != "/tmp") MakeTargetOnOurMounts(kWorker, bind.target, bind.directory);
      AddAttach(kWorker, bind.tree, bind.target);
    }
  }

  // The worker's host ids own nothing, so files below /proc that only their owner may touch need no
  // cover; every mount saved is saved for each worker. With the host's ids everything is covered.
  void AddMasks() {
    const auto needs_cover = [&](std::string_view path, mode_t others) {
      struct stat status = {};
      if (stat(std::string(path).c_str(), &status) != 0) return false;
      return !new_user_ || (status.st_mode & others) != 0;
    };
    for (const std::string_view path : kMaskedFiles) {
      if (!needs_cover(path, S_IROTH | S_IWOTH)) continue;
      builder_.Add(PlanBuilder::kWorker, OpCode::kMask, Step::kMaskPath, {path});
    }
    for (const std::string_view path : kMaskedDirectories) {
      if (!needs_cover(path, S_IXOTH)) continue;
      builder_.Add(PlanBuilder::kWorker, OpCode::kMask, Step::kMaskPath, {path}, 1);
    }
    for (const std::string_view path : kProtected) {
      // /proc/sys has entries that belong to the worker's own namespaces.
      if (path != "/proc/sys" && !needs_cover(path, S_IWOTH)) continue;
      builder_.Add(PlanBuilder::kWorker, OpCode::kWriteProtect, Step::kMaskPath, {path});
    }
  }

  // --- the rest -----------------------------------------------------------------------------

  void AddRlimits() {
    for (const Rlimit& limit : spec_.rlimits) {
      builder_.Add(PlanBuilder::kWorker, OpCode::kRlimit, Step::kRlimit, {}, limit.soft, limit.hard,
                   static_cast<std::uint16_t>(limit.resource));
    }
  }

  void AddIds(List list, std::uint32_t uid, std::uint32_t gid, bool keep_capabilities) {
    const bool clear_groups = range_ || (!new_user_ && machine_.id_ranges);
    builder_.Add(list, OpCode::kSetIds, Step::kSetIds, {fmt::format("{}:{}", uid, gid)}, uid, gid,
                 static_cast<std::uint16_t>((clear_groups ? 1 : 0) | (keep_capabilities ? 2 : 0)));
  }

  void AddBounding() {
    builder_.Add(PlanBuilder::kWorker, OpCode::kBounding, Step::kCapabilities, {"the bounding set"},
                 kept_capabilities_, static_cast<std::uint64_t>(LastCapability()));
  }

  absl::Status AddPrivileges() {
    constexpr List kWorker = PlanBuilder::kWorker;
    if (join_user_index_ >= 0) {
      builder_.Add(kWorker, OpCode::kSetns, Step::kJoinNamespace,
                   {spec_.ns(NamespaceKind::kUser).path}, kernel::kCloneNewUser, 0,
                   static_cast<std::uint16_t>(join_user_index_));
    }
    const std::uint64_t keep = kept_capabilities_;
    const bool has_capabilities = new_user_ || machine_.id_ranges || join_user_index_ >= 0;
    if (has_capabilities) {
      // Joining a user namespace fills the bounding set again.
      if (!new_user_) AddBounding();
      if (!range_ || spec_.uid != 0 || spec_.gid != 0) {
        AddIds(kWorker, spec_.uid, spec_.gid, keep != 0);
      }
      builder_.Add(kWorker, OpCode::kCapabilities, Step::kCapabilities, {}, keep);
    } else if (keep != 0) {
      return Error(absl::StatusCode::kPermissionDenied,
                   "without a user namespace an ordinary user has no capabilities to keep");
    }
    builder_.Add(kWorker, OpCode::kParentDeath, Step::kParentDeath);
    builder_.Add(kWorker, OpCode::kNoNewPrivs, Step::kNoNewPrivs);

    BROOD_ASSIGN_OR_RETURN(SeccompProgram program, CompileSeccomp(spec_.seccomp, keep));
    filter_ = std::move(program.instructions);
    header_.late_seccomp = !filter_.empty() && !program.allows_launch ? 1 : 0;
    if (!filter_.empty() && header_.late_seccomp == 0) {
      builder_.Add(kWorker, OpCode::kSeccomp, Step::kSeccomp);
    }
    return absl::OkStatus();
  }

  void SetHeader(const FaultInjection& fault) {
    for (const NamespaceKind kind :
         {NamespaceKind::kMount, NamespaceKind::kPid, NamespaceKind::kNet, NamespaceKind::kIpc,
          NamespaceKind::kUts, NamespaceKind::kUser}) {
      if (spec_.is_new(kind)) header_.clone_flags |= NamespaceFlag(kind);
    }
    header_.tree_count = static_cast<std::uint32_t>(tree_count_);
    header_.map_ids = new_user_ ? 1 : 0;
    header_.deny_setgroups = new_user_ && !range_ ? 1 : 0;
    // The OOM killer ends every process that shares its victim's memory, so a worker that can be
    // the victim of its own limit shares none. setns to a time namespace demands the same.
    const bool joins_time = spec_.ns(NamespaceKind::kTime).mode == NamespaceMode::kJoin;
    header_.share_memory =
        !spec_.limits.memory_bytes && !(joins_time && kind_ == PlanKind::kCold) ? 1 : 0;
    header_.record_ops = kind_ == PlanKind::kCold ? 1 : 0;
    header_.close_fds = kind_ == PlanKind::kCold ? 1 : 0;
    header_.fail_step = fault.step;
    header_.fail_error = fault.error;
    header_.fail_index = static_cast<std::uint16_t>(fault.index);
    header_.fail_in_template = fault.in_template ? 1 : 0;
  }

  struct BindPlace {
    std::uint16_t tree;
    std::string target;
    bool directory;
  };

  const Spec& spec_;
  const PlanKind kind_;
  const Machine& machine_;
  List shared_ = PlanBuilder::kWorker;  // where operations go whose result workers can share
  bool new_user_ = false;
  bool range_ = false;  // a range of ids is mapped, not the caller's alone

  Blueprint out_;
  PlanBuilder builder_;
  Plan header_;
  std::vector<sock_filter> filter_;
  std::string staging_;
  int root_fd_ = -1;
  int join_user_index_ = -1;
  std::uint64_t kept_capabilities_ = 0;
  bool own_time_offsets_ = false;  // the worker writes them, not the zygote
  std::size_t tree_count_ = 0;
  std::vector<BindPlace> binds_;
  std::vector<Part> parts_;        // of an overlay template
  std::vector<Part> host_mounts_;  // below the host's root
  std::vector<int> device_trees_;
  int proc_tree_ = -1;
  bool old_root_stays_ = false;
};

absl::StatusOr<Blueprint> Blueprint::Make(const Spec& spec, PlanKind kind,
                                          const FaultInjection& fault) {
  return BlueprintMaker(spec, kind).Make(fault);
}

absl::StatusOr<std::vector<UniqueFd>> Blueprint::OpenTrees() const {
  std::vector<UniqueFd> trees(plan().tree_count);
  if (!ThisMachine().mount_admin) return trees;
  for (std::size_t i = 0; i < tree_sources_.size(); ++i) {
    const TreeSource& source = tree_sources_[i];
    constexpr unsigned kFlags =
        kernel::kOpenTreeClone | kernel::kOpenTreeCloexec | kernel::kAtEmptyPath;
    sys::Result copied =
        sys::OpenTree(source.fd.get(), "", kFlags | (source.recursive ? kernel::kAtRecursive : 0));
    // Where the submounts are locked (a container's user namespace) only all can be copied.
    if (copied == -EINVAL && !source.recursive) {
      copied = sys::OpenTree(source.fd.get(), "", kFlags | kernel::kAtRecursive);
    }
    if (copied < 0) {
      return ErrnoError(static_cast<int>(-copied), "copying the mounts of {}", source.path);
    }
    UniqueFd tree(static_cast<int>(copied));
    kernel::MountAttr attributes;
    attributes.attr_set = source.attributes;
    // The copy of a shared mount is a peer of it, and pivot_root refuses peers.
    attributes.propagation = kernel::kMsPrivate;
    const sys::Result result =
        sys::MountSetattr(tree.get(), "", kernel::kAtEmptyPath | kernel::kAtRecursive, attributes);
    if (result < 0) {
      return ErrnoError(static_cast<int>(-result), "restricting the mounts of {}", source.path);
    }
    trees[i] = std::move(tree);
  }
  return trees;
}

std::string Blueprint::Describe(const Failure& failure, const OpList& list,
                                const Command* command) const {
  std::string subject;
  const Plan& plan = this->plan();
  if (failure.index < list.count) {
    const Op& op = plan.ops(list)[failure.index];
    if (op.step == failure.step) {
      const char* text = plan.text(op.code == OpCode::kMount ? op.text[1] : op.text[0]);
      if (text != nullptr) subject = text;
    }
  }
  if (command != nullptr && failure.step == Step::kExec) subject = command->argv.front();
  if (command != nullptr && failure.step == Step::kWorkingDirectory) subject = command->cwd;

  std::string sentence(StepAction(failure.step));
  if (!subject.empty() && sentence.find(subject) == std::string::npos) sentence += " " + subject;
  sentence += ": " + ErrnoText(failure.error);
  if (const std::string_view advice = Advice(failure.step, failure.error); !advice.empty()) {
    sentence += fmt::format("; {}", advice);
  }
  return sentence;
}

}  // namespace brood
