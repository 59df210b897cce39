// SPDX-License-Identifier: Apache-2.0

// What mounts cost, by the old calls and the new, and a root of one's own.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <utility>

#include "bench/harness/lab.h"
#include "bench/measures/bare_clone.h"
#include "bench/measures/measures.h"
#include "bench/measures/mount_lab.h"
#include "bench/measures/namespaces.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/syscalls.h"
#include "spawn/host/machine.h"

namespace brood::bench {
namespace {

constexpr unsigned kOpenTreeNamespace = 2;  // Linux 7.0
constexpr unsigned kRecursive = 0x8000;     // AT_RECURSIVE
constexpr int kTreeMounts = 20;             // of a template, say
constexpr unsigned kEmptyPath = 4;          // MOVE_MOUNT_F_EMPTY_PATH

using Step = std::function<absl::Status()>;

absl::Status Mount(const char* source, const char* target, const char* type, unsigned long flags,
                   const char* options) {
  if (mount(source, target, type, flags, options) == 0) return absl::OkStatus();
  return ErrnoError(errno, "mounting {} on {}", type == nullptr ? source : type, target);
}

absl::Status Unmount(const char* target) {
  if (umount2(target, MNT_DETACH) == 0) return absl::OkStatus();
  return ErrnoError(errno, "unmounting {}", target);
}

// Attaches a detached mount, or tree of them.
absl::Status Attach(long tree, const char* target) {
  if (tree < 0) return ErrnoError(static_cast<int>(-tree), "open_tree or fsmount");
  const UniqueFd owner(static_cast<int>(tree));
  const sys::Result moved = sys::MoveMount(owner.get(), "", AT_FDCWD, target, kEmptyPath);
  return moved < 0 ? ErrnoError(static_cast<int>(-moved), "move_mount to {}", target)
                   : absl::OkStatus();
}

absl::Status BindByOpenTree() {
  return Attach(sys::OpenTree(AT_FDCWD, "/a", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), "/b");
}

absl::Status TmpfsByFsopen() {
  const UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "tmpfs", /*FSOPEN_CLOEXEC*/ 1)));
  if (!context.valid()) return ErrnoError(errno, "fsopen of tmpfs");
  if (syscall(SYS_fsconfig, context.get(), /*FSCONFIG_CMD_CREATE*/ 6, nullptr, nullptr, 0) != 0) {
    return ErrnoError(errno, "fsconfig of tmpfs");
  }
  const long made = syscall(SYS_fsmount, context.get(), /*FSMOUNT_CLOEXEC*/ 1, 0);
  return Attach(made < 0 ? -errno : made, "/b");
}

absl::Status MakeOverlayDirectories() {
  BROOD_RETURN_IF_ERROR(Mount("lab", "/m", "tmpfs", 0, nullptr));
  for (const char* const name : {"/m/lower", "/m/upper", "/m/work"}) {
    if (mkdir(name, 0755) != 0) return ErrnoError(errno, "making {}", name);
  }
  return absl::OkStatus();
}

// Makes a mount on /b over and over; taking it away again is measured apart.
Row MountRow(const Setup& setup, const std::string& name, const Step& mount,
             const Step& prepare = nullptr) {
  Row row = LabRow(
      "mount/" + name,
      [scratch = setup.scratch, prepare]() -> absl::Status {
        BROOD_RETURN_IF_ERROR(EnterMountLab(scratch, 1));
        return prepare ? prepare() : absl::OkStatus();
      },
      [mount](int warm_ups, int iterations, Series& series) -> absl::Status {
        for (int i = -warm_ups; i < iterations; ++i) {
          const std::int64_t start = NowNs();
          BROOD_RETURN_IF_ERROR(mount());
          const std::int64_t made = NowNs();
          BROOD_RETURN_IF_ERROR(Unmount("/b"));
          const std::int64_t gone = NowNs();
          if (i < 0) continue;
          series[kLatency].push_back(static_cast<double>(made - start) / 1e3);
          series["umount_us"].push_back(static_cast<double>(gone - made) / 1e3);
        }
        return absl::OkStatus();
      });
  row.unavailable = Obstacle(NamespaceKind::kMount);
  return row;
}

// A template's mounts: made one by one, or copied as one tree.
absl::Status MakeTree() {
  BROOD_RETURN_IF_ERROR(Mount("lab", "/m", "tmpfs", 0, nullptr));
  for (int i = 0; i < kTreeMounts; ++i) {
    const std::string name = fmt::format("/{}", i);
    if (mkdir(("/a" + name).c_str(), 0755) != 0 || mkdir(("/m" + name).c_str(), 0755) != 0) {
      return ErrnoError(errno, "making a directory");
    }
    BROOD_RETURN_IF_ERROR(Mount("/a", ("/m" + name).c_str(), nullptr, MS_BIND, nullptr));
  }
  return absl::OkStatus();
}

absl::Status BindTreeOneByOne() {
  BROOD_RETURN_IF_ERROR(Mount("/m", "/b", nullptr, MS_BIND, nullptr));
  for (int i = 0; i < kTreeMounts; ++i) {
    BROOD_RETURN_IF_ERROR(Mount("/a", fmt::format("/b/{}", i).c_str(), nullptr, MS_BIND, nullptr));
  }
  return absl::OkStatus();
}

absl::Status CopyTree() {
  return Attach(sys::OpenTree(AT_FDCWD, "/m", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | kRecursive),
                "/b");
}

// A child with a mount namespace of its own, and then more.
Row ChildRow(const Setup& setup, const std::string& name, std::uint64_t flags,
             const std::function<void(BareChild&)>& tell) {
  const auto once = std::make_shared<Once>();
  Row row = LabRow(
      "mount/" + name,
      [scratch = setup.scratch]() -> absl::Status {
        BROOD_RETURN_IF_ERROR(EnterMountLab(scratch, 10));
        return Mount("lab", "/b", "tmpfs", 0, nullptr);
      },
      [once, flags, tell](int warm_ups, int iterations, Series& series) -> absl::Status {
        if (!*once) {
          BROOD_ASSIGN_OR_RETURN(BareClone made, BareClone::Create());
          const auto clone = std::make_shared<BareClone>(std::move(made));
          if (tell) tell(clone->child());
          *once = [clone, flags] { return clone->RunOnce(kLikeVfork | flags); };
        }
        return MeasureEach(warm_ups, iterations, *once, series);
      });
  row.parameters = {{"mounts", 11}};
  row.unavailable = Obstacle(NamespaceKind::kMount);
  return row;
}

bool OpenTreeKnows(unsigned flag) {
  const sys::Result tree = sys::OpenTree(AT_FDCWD, "/", flag | OPEN_TREE_CLOEXEC);
  if (tree >= 0) sys::Close(static_cast<int>(tree));
  return tree >= 0;
}

absl::Status TreeNamespace() {
  const sys::Result made = sys::OpenTree(AT_FDCWD, "/m", kOpenTreeNamespace | OPEN_TREE_CLOEXEC);
  if (made < 0) return ErrnoError(static_cast<int>(-made), "open_tree with OPEN_TREE_NAMESPACE");
  sys::Close(static_cast<int>(made));
  return absl::OkStatus();
}

}  // namespace

std::vector<Row> MountRows(const Setup& setup) {
  std::vector<Row> rows;
  const auto add = [&](const char* name, const Step& mount, const Step& prepare = nullptr) {
    rows.push_back(MountRow(setup, name, mount, prepare));
  };
  add("bind", [] { return Mount("/a", "/b", nullptr, MS_BIND, nullptr); });
  add("bind/open_tree", BindByOpenTree);
  add("tmpfs", [] { return Mount("tmpfs", "/b", "tmpfs", 0, nullptr); });
  add("tmpfs/fsopen", TmpfsByFsopen);
  add("proc", [] { return Mount("proc", "/b", "proc", 0, nullptr); });
  add("devpts", [] { return Mount("devpts", "/b", "devpts", 0, "newinstance,ptmxmode=0666"); });
  add("mqueue", [] { return Mount("mqueue", "/b", "mqueue", 0, nullptr); });
  add(
      "overlay",
      [] {
        return Mount("overlay", "/b", "overlay", 0,
                     "lowerdir=/m/lower,upperdir=/m/upper,workdir=/m/work");
      },
      MakeOverlayDirectories);
  add("tree/one-by-one", BindTreeOneByOne, MakeTree);
  add("tree/open_tree", CopyTree, MakeTree);
  for (Row& row : rows) {
    const std::size_t slash = row.name.rfind('/');
    if (row.name.ends_with("/open_tree") || row.name.ends_with("/fsopen")) {
      row.floor = row.name.substr(0, slash);
    }
    if (row.name.starts_with("mount/tree/")) {
      row.parameters = {{"mounts", kTreeMounts + 1}};
      if (row.name.ends_with("/open_tree")) row.floor = "mount/tree/one-by-one";
    }
  }
  constexpr char kInTheTree[] = "mount/root/in-the-tree";
  rows.push_back(ChildRow(setup, "root/in-the-tree", kernel::kCloneNewNs, nullptr));
  rows.back().note = "a mount namespace whose tree is ready: nothing is left to do";
  rows.push_back(ChildRow(setup, "root/pivot_root", kernel::kCloneNewNs,
                          [](BareChild& child) { child.pivot_to = "/b"; }));
  rows.back().note = "chdir, pivot_root, umount of the old root";
  rows.back().floor = kInTheTree;
  if (CloneKnows(kernel::kCloneNewNs | kernel::kCloneEmptyMntns)) {
    rows.push_back(ChildRow(setup, "root/CLONE_EMPTY_MNTNS",
                            kernel::kCloneNewNs | kernel::kCloneEmptyMntns, nullptr));
    rows.back().floor = kInTheTree;
  } else {
    rows.push_back(UnavailableRow("mount/root/CLONE_EMPTY_MNTNS",
                                  "this kernel does not know the flag (it came with Linux 7.1)"));
  }
  if (OpenTreeKnows(kOpenTreeNamespace)) {
    rows.push_back(LabRow(
        "mount/root/OPEN_TREE_NAMESPACE",
        [scratch = setup.scratch]() -> absl::Status {
          BROOD_RETURN_IF_ERROR(EnterMountLab(scratch, 1));
          return MakeTree();
        },
        TreeNamespace));
  } else {
    rows.push_back(UnavailableRow("mount/root/OPEN_TREE_NAMESPACE",
                                  "this kernel does not know the flag (it came with Linux 7.0)"));
  }
  return rows;
}

}  // namespace brood::bench
