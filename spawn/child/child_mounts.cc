// SPDX-License-Identifier: Apache-2.0

// What the child does to put its root together. Child code.
//
// Nothing of a root is trusted: its author, and whoever writes to it meanwhile, may put links where
// directories were. So a place is resolved once, below the descriptor of the root and through no
// link at all (the plan has resolved those that were there), and what has been resolved is what is
// mounted on. The old root is detached before any of that: as long as it lies over the new one,
// `..` at "/" leads into it, whatever openat2 is told.
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "spawn/child/child.h"

namespace brood {
namespace {

constexpr int kCwd = AT_FDCWD;

sys::Result OpenPlace(const ChildContext& context, const char* path) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  if (context.root_fd < 0) return sys::OpenAt2(kCwd, path, how);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
  return sys::OpenAt2(context.root_fd, path, how);
}

// Runs action(fd) on what `path` is.
template <typename Action>
sys::Result At(const ChildContext& context, const char* path, Action&& action) {
  const sys::Result place = OpenPlace(context, path);
  if (place < 0) return place;
  const sys::Result result = action(static_cast<int>(place));
  sys::Close(static_cast<int>(place));
  return result;
}

sys::Result Go(const ChildContext& context, const char* path) {
  return At(context, path, [](int place) { return sys::Fchdir(place); });
}

const char* LastName(const char* path) {
  const char* name = path;
  for (const char* at = path; *at != '\0'; ++at) {
    if (*at == '/') name = at + 1;
  }
  return name;
}

// A path that may be missing on this kernel is not an error when it only had to be hidden.
sys::Result Absent(sys::Result result) {
  return result == -ENOENT || result == -ENOTDIR ? 0 : result;
}

// A mount of the host's that the worker could not reach anyway, or that is no more.
bool Unreachable(sys::Result result) {
  return result == -EACCES || result == -ENOENT || result == -ENOTDIR || result == -ESTALE ||
         result == -ENOTCONN || result == -EIO;
}

sys::Result AttachAt(int tree, int place) {
  return sys::MoveMount(tree, "", place, "",
                        kernel::kMoveMountFromEmptyPath | kernel::kMoveMountToEmptyPath);
}

sys::Result Attach(const ChildContext& context, int tree, const char* path, bool if_reachable) {
  if (tree < 0 && if_reachable) return 0;
  const sys::Result attached = At(context, path, [&](int place) { return AttachAt(tree, place); });
  sys::Close(tree);
  return if_reachable && Unreachable(attached) ? 0 : attached;
}

sys::Result CopyMount(const ChildContext& context, const char* path, bool recursive) {
  constexpr unsigned kFlags = kernel::kOpenTreeClone | kernel::kOpenTreeCloexec;
  const auto copy = [&](int directory, const char* place, unsigned more) {
    const unsigned all = recursive ? kernel::kAtRecursive : 0;
    const sys::Result tree = sys::OpenTree(directory, place, kFlags | more | all);
    // Where the submounts are locked (in a user namespace of its own) only all can be copied.
    if (tree != -EINVAL || recursive) return tree;
    return sys::OpenTree(directory, place, kFlags | more | kernel::kAtRecursive);
  };
  if (context.root_fd < 0) return copy(kCwd, path, 0);
  return At(context, path, [&](int place) { return copy(place, "", kernel::kAtEmptyPath); });
}

sys::Result NewMount(const char* type, std::uint64_t attributes) {
  const sys::Result opened = sys::Fsopen(type, kernel::kFsopenCloexec);
  if (opened < 0) return opened;
  const int fd = static_cast<int>(opened);
  // What mount(8) shows in its first column.
  sys::Result mounted = sys::Fsconfig(fd, kernel::kFsconfigSetString, "source", type);
  if (mounted >= 0) mounted = sys::Fsconfig(fd, kernel::kFsconfigCreate);
  if (mounted >= 0) mounted = sys::Fsmount(fd, kernel::kFsmountCloexec, attributes);
  sys::Close(fd);
  return mounted;
}

sys::Result NewMountOrCopy(const Op& op, ChildContext& context) {
  const Plan& plan = *context.plan;
  sys::Result tree = NewMount(plan.text(op.text[0]), op.number[0]);
  if (tree < 0 && op.text[1] != 0) {
    if (context.box != nullptr) context.box->sys_error = static_cast<std::int32_t>(-tree);
    tree = CopyMount(context, plan.text(op.text[1]), /*recursive=*/false);
    if (tree < 0) return tree;
    kernel::MountAttr attributes;
    attributes.attr_set = op.number[0];
    const sys::Result set = sys::MountSetattr(
        static_cast<int>(tree), "", kernel::kAtEmptyPath | kernel::kAtRecursive, attributes);
    if (set < 0) return set;
  }
  if (tree < 0 && op.number[1] != 0) {
    if (context.box != nullptr) context.box->sys_error = static_cast<std::int32_t>(-tree);
    tree = -1;
  } else if (tree < 0) {
    return tree;
  }
  context.trees[op.index] = static_cast<int>(tree);
  return 0;
}

// Binds of what /dev holds anyway; a tmpfs for each would be a superblock for each worker.
sys::Result Mask(const char* path, bool directory) {
  const char* blank = directory ? "/dev/mqueue" : "/dev/null";
  return Absent(sys::Mount(blank, LastName(path), nullptr, kernel::kMsBind, nullptr));
}

sys::Result WriteProtect(const char* path) {
  const char* name = LastName(path);
  const sys::Result bound =
      sys::Mount(name, name, nullptr, kernel::kMsBind | kernel::kMsRec, nullptr);
  if (bound < 0) return Absent(bound);
  return sys::Mount(nullptr, name, nullptr,
                    kernel::kMsBind | kernel::kMsRemount | kernel::kMsRdonly | kernel::kMsNosuid |
                        kernel::kMsNodev | kernel::kMsNoexec,
                    nullptr);
}

sys::Result MakeFile(const char* path, const char* text, bool if_allowed) {
  const sys::Result fd =
      sys::OpenAt(kCwd, LastName(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd == -EEXIST && text == nullptr) return 0;
  if (if_allowed && (fd == -EACCES || fd == -EROFS)) return 0;
  if (fd < 0) return fd;
  sys::Result written = 0;
  if (text != nullptr) {
    std::size_t length = 0;
    while (text[length] != '\0') ++length;
    written = sys::Write(static_cast<int>(fd), text, length);
  }
  sys::Close(static_cast<int>(fd));
  return written;
}

sys::Result TakeRoot(ChildContext& context, sys::Result fd) {
  if (fd < 0) return fd;
  if (context.root_fd >= 0) sys::Close(context.root_fd);
  context.root_fd = static_cast<int>(fd);
  return 0;
}

sys::Result OpenRoot() { return sys::OpenAt(kCwd, "/", O_PATH | O_DIRECTORY | O_CLOEXEC); }

// pivot_root(2), "pivot_root(".", ".")": the old root comes to lie over the new one, and is
// detached at once.
sys::Result EnterRoot(ChildContext& context, const char* path) {
  sys::Result result = Go(context, path);
  if (result >= 0) result = sys::PivotRoot(".", ".");
  if (result >= 0) result = sys::Umount2(".", kernel::kMntDetach);
  if (result >= 0) result = sys::Chdir("/");
  return result < 0 ? result : TakeRoot(context, OpenRoot());
}

// The cheap way in, for workers: pivot_root visits every thread of the machine, and detaching the
// old root waits for an RCU grace period. The new root is mounted over the old one instead, which a
// process without CAP_SYS_CHROOT can never get below (BlueprintMaker::AddWorkerRoot). Nothing lies
// over the new one, so `..` ends there.
sys::Result EnterTree(ChildContext& context, int tree) {
  sys::Result result = sys::Fchdir(tree);
  if (result >= 0) {
    result = sys::MoveMount(tree, "", kCwd, "/", kernel::kMoveMountFromEmptyPath);
  }
  if (result >= 0) result = sys::Chroot(".");
  return result < 0 ? result : TakeRoot(context, tree);
}

// The same for a mount that is attached already, below the old root: it is moved on top of all
// else. "/.." is the topmost mount over the root, while "/" is the bottom.
sys::Result EnterMount(ChildContext& context, const char* path) {
  sys::Result result = sys::MoveMount(kCwd, path, kCwd, "/", /*flags*/ 0);
  if (result >= 0) result = sys::Chroot("/..");
  return result < 0 ? result : TakeRoot(context, OpenRoot());
}

}  // namespace

sys::Result RunMountOp(const Op& op, ChildContext& context) {
  const Plan& plan = *context.plan;
  const char* first = plan.text(op.text[0]);
  const char* second = plan.text(op.text[1]);
  const char* third = plan.text(op.text[2]);
  const std::uint64_t number = op.number[0];
  switch (op.code) {
    case OpCode::kMakePrivate:
      return sys::Mount(nullptr, "/", nullptr, kernel::kMsRec | kernel::kMsPrivate, nullptr);
    case OpCode::kBindPath: {
      const sys::Result tree = CopyMount(context, first, number != 0);
      if (tree >= 0) context.trees[op.index] = static_cast<int>(tree);
      return tree;
    }
    case OpCode::kNewMount:
      return NewMountOrCopy(op, context);
    case OpCode::kTreeAttributes: {
      kernel::MountAttr attributes;
      attributes.attr_set = number;
      const unsigned recursive = op.number[1] != 0 ? kernel::kAtRecursive : 0;
      return sys::MountSetattr(context.trees[op.index], "", kernel::kAtEmptyPath | recursive,
                               attributes);
    }
    case OpCode::kAttach:
      return Attach(context, context.trees[op.index], first, number != 0);
    case OpCode::kMount: {
      const sys::Result gone = Go(context, second);
      return gone < 0 ? gone : sys::Mount(first, ".", first, number, third);
    }
    case OpCode::kRemount: {
      const sys::Result gone = Go(context, first);
      const unsigned long flags = kernel::kMsBind | kernel::kMsRemount | number;
      return gone < 0 ? gone : sys::Mount(nullptr, ".", nullptr, flags, nullptr);
    }
    case OpCode::kGo:
      return Go(context, first);
    case OpCode::kMask:
      return Mask(first, number != 0);
    case OpCode::kWriteProtect:
      return WriteProtect(first);
    case OpCode::kMakeDirectory: {
      const sys::Result made = sys::MkdirAt(kCwd, LastName(first), static_cast<unsigned>(number));
      return made == -EEXIST ? 0 : made;
    }
    case OpCode::kMakeFile:
      return MakeFile(first, second, number != 0);
    case OpCode::kMakeSymlink:
      return sys::SymlinkAt(second, kCwd, LastName(first));
    case OpCode::kEnterRoot:
      return EnterRoot(context, first);
    case OpCode::kEnterTree:
      return EnterTree(context, context.trees[op.index]);
    case OpCode::kEnterMount:
      return EnterMount(context, first);
    case OpCode::kRootAt:
      return TakeRoot(context, OpenPlace(context, first));
    default:
      return -EPROTO;
  }
}

}  // namespace brood
