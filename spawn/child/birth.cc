// SPDX-License-Identifier: Apache-2.0

#include "spawn/child/birth.h"

#include <linux/fcntl.h>

namespace brood {
namespace {

// Writes `value` in decimal and returns the end.
char* Decimal(char* to, std::uint64_t value) {
  char digits[20];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count > 0) *to++ = digits[--count];
  return to;
}

char* Text(char* to, const char* text) {
  while (*text != '\0') *to++ = *text++;
  return to;
}

std::size_t Length(const char* text) {
  std::size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

sys::Result WriteOf(int proc_fd, sys::Result pid, const char* file, const char* text,
                    std::size_t length) {
  const int fd = OpenOfProcess(proc_fd, pid, file, O_WRONLY);
  if (fd < 0) return fd;
  const sys::Result written = sys::Write(fd, text, length);
  sys::Close(fd);
  return written < 0 ? written : 0;
}

sys::Result Tell(BirthRequest& request, WorkerState state, Step step, sys::Result result) {
  Mailbox& box = *request.context.box;
  box.failure = {step, 0, static_cast<std::int32_t>(-result)};
  StoreState(box, state);
  sys::FutexWake(&box.state, 1);
  return result;
}

// Ends a worker that waits in kBorn.
sys::Result AbortBirth(BirthRequest& request, Step step, sys::Result result) {
  return Tell(request, WorkerState::kAbort, step, result);
}

}  // namespace

int OpenOfProcess(int proc_fd, sys::Result pid, const char* file, int flags) {
  char path[64];
  *Text(Text(Decimal(path, static_cast<std::uint64_t>(pid)), "/"), file) = '\0';
  return static_cast<int>(sys::OpenAt(proc_fd, path, flags | O_CLOEXEC));
}

// user_namespaces(7): the maps are written from the parent namespace, which holds the outside ids,
// and setgroups is denied first when the writer has no privilege there.
sys::Result MapIds(const BirthRequest& request, sys::Result pid) {
  const Plan& plan = *request.context.plan;
  const Mailbox& box = *request.context.box;
  const auto write_map = [&](const char* file, std::uint32_t text, std::uint32_t inside,
                             std::uint32_t base) {
    if (const char* whole = plan.text(text); whole != nullptr) {
      return WriteOf(request.context.proc_fd, pid, file, whole, Length(whole));
    }
    char line[64];
    char* end = Decimal(line, inside);
    end = Decimal(Text(end, " "), base);
    end = Decimal(Text(end, " "), box.id_count);
    return WriteOf(request.context.proc_fd, pid, file, line, static_cast<std::size_t>(end - line));
  };
  if (plan.deny_setgroups != 0) {
    const sys::Result denied = WriteOf(request.context.proc_fd, pid, "setgroups", "deny", 4);
    if (denied < 0) return denied;
  }
  const sys::Result groups = write_map("gid_map", plan.gid_map, box.inside_gid, box.gid_base);
  return groups < 0 ? groups : write_map("uid_map", plan.uid_map, box.inside_uid, box.uid_base);
}

// A filesystem that cannot be idmapped is used as it is: its owners then show as nobody. That is
// noted, not hidden (Mailbox::idmap_error). The kernel maps all mounts of a tree or none.
void IdmapTrees(const BirthRequest& request, int user_namespace) {
  const Plan& plan = *request.context.plan;
  if (user_namespace < 0) {
    request.context.box->idmap_error = -user_namespace;
    return;
  }
  kernel::MountAttr attributes;
  attributes.attr_set = kernel::kMountAttrIdmap;
  attributes.userns_fd = static_cast<std::uint64_t>(user_namespace);
  const auto map = [&](std::uint16_t tree, unsigned recursive) {
    return Injected(plan, Step::kIdmapTree, tree)
               ? -plan.fail_error
               : sys::MountSetattr(request.context.trees[tree], "",
                                   kernel::kAtEmptyPath | recursive, attributes);
  };
  const Op* ops = plan.ops(plan.idmaps);
  for (std::uint32_t i = 0; i < plan.idmaps.count; ++i) {
    if (map(ops[i].index, kernel::kAtRecursive) >= 0) continue;
    // What is mounted below it may be what refuses, such as the template's own /sys.
    const sys::Result result = map(ops[i].index, 0);
    if (result < 0) request.context.box->idmap_error = static_cast<std::int32_t>(-result);
  }
  sys::Close(user_namespace);
}

sys::Result RefuseBirth(BirthRequest& request, Step step, sys::Result result) {
  return Tell(request, WorkerState::kFailed, step, result);
}

sys::Result BirthWorker(BirthRequest& request) {
  const Plan& plan = *request.context.plan;
  Mailbox& box = *request.context.box;

  box.birth_ns = Now(request.context);
  kernel::CloneArgs args;
  args.flags = plan.clone_flags | request.extra_flags | kernel::kCloneClearSighand |
               kernel::kCloneParentSettid | kernel::kCloneChildCleartid;
  if (plan.share_memory != 0) args.flags |= kernel::kCloneVm;
  args.parent_tid = reinterpret_cast<std::uint64_t>(&box.pid);
  args.child_tid = reinterpret_cast<std::uint64_t>(&box.alive);
  args.pidfd = reinterpret_cast<std::uint64_t>(request.pidfd);
  args.stack = reinterpret_cast<std::uint64_t>(request.stack);
  // The context and its trees lie at the top of the stack.
  args.stack_size = StackBelow(sizeof(ChildContext) + plan.tree_count * sizeof(int));
  auto* context = reinterpret_cast<ChildContext*>(request.stack + args.stack_size);
  CopyContext(*context, request.context);
  context->attributes = request.attributes & kOwnAttributes;

  int leaf = -1;
  if (request.parent_fd >= 0 && box.leaf[0] != '\0') {
    leaf = Injected(plan, Step::kOpenLeaf, 0)
               ? -plan.fail_error
               : static_cast<int>(sys::OpenAt(request.parent_fd, box.leaf,
                                              O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (leaf < 0) return RefuseBirth(request, Step::kOpenLeaf, leaf);
    args.flags |= kernel::kCloneIntoCgroup;
    args.cgroup = static_cast<std::uint64_t>(leaf);
  }

  int handed = -1;
  if (request.hand_to >= 0) {
    args.flags |= kernel::kClonePidfd;
    args.pidfd = reinterpret_cast<std::uint64_t>(&handed);
  }

  const bool map_ids = plan.maps_by != MapsBy::kNobody && plan.slot_flags == 0;
  const std::uint32_t odd = request.attributes & ~kOwnAttributes;
  const bool waits = map_ids || request.hand_to >= 0 || odd != 0;
  __atomic_store_n(&box.alive, 1U, __ATOMIC_RELEASE);
  StoreState(box, waits ? WorkerState::kBorn : WorkerState::kMapped);
  const sys::Result pid = Injected(plan, Step::kCloneWorker, 0)
                              ? -plan.fail_error
                              : sys::Clone3(args, WorkerMain, context);
  box.cloned_ns = Now(request.context);
  if (leaf >= 0) sys::Close(leaf);
  if (pid < 0) {
    // The kernel writes it before its last checks, and takes the descriptor away again.
    if (request.pidfd != nullptr) *request.pidfd = -1;
    __atomic_store_n(&box.alive, 0U, __ATOMIC_RELEASE);
    return RefuseBirth(request, Step::kCloneWorker, pid);
  }
  if (request.hand_to >= 0) {
    const sys::Result sent =
        SendWorker(request.hand_to, {request.slot, static_cast<std::int32_t>(pid)}, handed);
    sys::Close(handed);
    if (sent < 0) return AbortBirth(request, Step::kHandOver, sent);
  }
  if (odd != 0) ResetAttributes(odd, pid, request.context.proc_fd, box.attributes);
  if (!waits || plan.maps_by == MapsBy::kLauncher) return pid;
  return FinishBirth(request, pid, map_ids ? MapIds(request, pid) : 0);
}

sys::Result FinishBirth(BirthRequest& request, sys::Result pid, sys::Result mapped) {
  const Plan& plan = *request.context.plan;
  Mailbox& box = *request.context.box;
  if (Injected(plan, Step::kMapIds, 0)) mapped = -plan.fail_error;
  if (mapped < 0) return AbortBirth(request, Step::kMapIds, mapped);
  // The trees of a slot were mapped for its cloner.
  if (plan.idmaps.count != 0 && plan.slot_flags == 0) {
    IdmapTrees(request, OpenOfProcess(request.context.proc_fd, pid, "ns/user", O_RDONLY));
  }
  StoreState(box, WorkerState::kMapped);
  sys::FutexWake(&box.state, 1);
  return pid;
}

}  // namespace brood
