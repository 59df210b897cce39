// SPDX-License-Identifier: Apache-2.0

// The zygote: a small, static, single-threaded helper that prepares a template once and from then
// on clones workers, or for slots (spawn/child/slot.h) those who do, as siblings of itself, for the
// launcher that started it.
//
// It lives in two mount namespaces of its own. One keeps the template's finished tree. The other,
// in which it stays, holds two mounts only, because every clone copies the mounts of the namespace
// it starts from; each worker then gets a copy of the finished tree as a detached mount.
//
// Freestanding: no libc, so no hidden state that a worker sharing this memory could disturb.
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/seccomp.h>

#include "spawn/child/slot.h"
#include "spawn/child/zygote_wire.h"

namespace brood {
namespace {

struct Zygote {
  Region* region = nullptr;
  const Plan* plan = nullptr;
  char* slots = nullptr;
  char* stacks = nullptr;      // of the worker of each slot, then of each slot's cloner
  Slot* namespaces = nullptr;  // of each slot
  int fds_from = 0;            // the plan's descriptors
  int fds_end = 0;
  std::uint32_t guarded = 0;  // the stacks of so many slots have their guards
  bool has_parent = false;
  AttributeErrors attributes;  // what it has kept of its launcher's, and so its workers
  int template_ns = -1;        // mount namespaces, -1 where the plan has none of its own
  int home_ns = -1;
  int lanes[kMaxLanes] = {};
  ChildContext context;
};

// Its own: a worker has a copy of the numbers on its stack.
int trees[kMaxTrees];

sys::Result Map(int fd, std::uint64_t bytes, int flags) {
  return sys::Call(__NR_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE, flags, fd, 0);
}

int OpenMountNamespace() {
  return static_cast<int>(sys::OpenAt(ZygoteFd::kProc, "self/ns/mnt", O_RDONLY | O_CLOEXEC));
}

[[noreturn]] void Give(Zygote& zygote, std::uint32_t list, const Failure& failure) {
  zygote.region->failure = failure;
  zygote.region->failed_list = list;
  __atomic_store_n(&zygote.region->state, static_cast<std::uint32_t>(ZygoteState::kFailed),
                   __ATOMIC_RELEASE);
  sys::FutexWake(&zygote.region->state, 1);
  sys::ExitGroup(125);
}

// The same before there is memory to share: through the file. Nobody can be woken by it; the
// launcher looks now and then.
[[noreturn]] void GiveUnmapped(Region& header, sys::Result result) {
  const auto write = [&](const void* from, std::size_t size, std::size_t at) {
    sys::Call(__NR_pwrite64, ZygoteFd::kRegion, sys::Arg(from), static_cast<long>(size),
              static_cast<long>(at));
  };
  header.failure = {Step::kMapMemory, 0xffff, static_cast<std::int32_t>(-result)};
  header.state = static_cast<std::uint32_t>(ZygoteState::kFailed);
  write(&header.failure, sizeof(header.failure), offsetof(Region, failure));
  write(&header.state, sizeof(header.state), offsetof(Region, state));
  sys::ExitGroup(125);
}

// What comes next begins in another root.
void LeaveRoot(Zygote& zygote) {
  if (zygote.context.root_fd >= 0) sys::Close(zygote.context.root_fd);
  zygote.context.root_fd = -1;
}

void PrepareTemplate(Zygote& zygote) {
  const Plan& plan = *zygote.plan;
  Failure failure;
  if (plan.home.count == 0) {
    if (!RunOps(plan.tmpl, 0, plan.tmpl.count, zygote.context, nullptr, failure))
      Give(zygote, 0, failure);
    return;
  }
  const int host_ns = OpenMountNamespace();
  const auto must = [&](sys::Result result, Step step) {
    if (result < 0) Give(zygote, 0, {step, 0xffff, static_cast<std::int32_t>(-result)});
  };
  must(host_ns, Step::kJoinNamespace);
  must(sys::Unshare(kernel::kCloneNewNs), Step::kUnshare);
  if (!RunOps(plan.tmpl, 0, plan.tmpl.count, zygote.context, nullptr, failure))
    Give(zygote, 0, failure);
  LeaveRoot(zygote);
  zygote.template_ns = OpenMountNamespace();
  must(zygote.template_ns, Step::kJoinNamespace);

  must(sys::Setns(host_ns, kernel::kCloneNewNs), Step::kJoinNamespace);
  must(sys::Unshare(kernel::kCloneNewNs), Step::kUnshare);
  if (!RunOps(plan.home, 0, plan.home.count, zygote.context, nullptr, failure))
    Give(zygote, 1, failure);
  LeaveRoot(zygote);
  zygote.home_ns = OpenMountNamespace();
  must(zygote.home_ns, Step::kJoinNamespace);
  sys::Close(host_ns);
}

// What is left is all that a worker which finds a way into this memory could use.
void DropCapabilities(Zygote& zygote) {
  const std::uint64_t keep = zygote.plan->zygote_capabilities;
  if (keep == ~std::uint64_t{0}) return;
  const auto low = static_cast<std::uint32_t>(keep);
  const auto high = static_cast<std::uint32_t>(keep >> 32);
  const kernel::CapData data[2] = {{low, low, 0}, {high, high, 0}};
  const sys::Result set = sys::Capset(kernel::CapHeader{}, data);
  if (set < 0) Give(zygote, 0, {Step::kCapabilities, 0xffff, static_cast<std::int32_t>(-set)});
}

// For all its workers: a filter that is inherited is not compiled again.
void InstallSeccomp(Zygote& zygote) {
  if (zygote.plan->slot_flags == 0) return;
  sys::setup_key = zygote.plan->setup_key;
  const kernel::SeccompFilter filter = zygote.plan->seccomp();
  const sys::Result installed = sys::Seccomp(SECCOMP_SET_MODE_FILTER, 0, &filter);
  if (installed < 0) {
    Give(zygote, 0, {Step::kSeccomp, 0xffff, static_cast<std::int32_t>(-installed)});
  }
}

// Copies the template's trees for one worker. A mount can be copied only from the namespace one
// is in (and, before 6.15, only from an attached tree), hence the visit.
bool CopyTrees(Zygote& zygote, Failure& failure) {
  const Plan& plan = *zygote.plan;
  if (plan.copies.count == 0) return true;
  for (std::uint32_t i = 0; i < plan.tree_count; ++i) zygote.context.trees[i] = -1;
  sys::Result result = sys::Setns(zygote.template_ns, kernel::kCloneNewNs);
  if (result < 0) {
    failure = {Step::kJoinNamespace, 0, static_cast<std::int32_t>(-result)};
    return false;
  }
  const bool copied = RunOps(plan.copies, 0, plan.copies.count, zygote.context, nullptr, failure);
  result = sys::Setns(zygote.home_ns, kernel::kCloneNewNs);
  // Without its home every later worker would be born among the template's mounts: give up.
  if (result < 0) sys::ExitGroup(125);
  return copied;
}

void CloseTrees(Zygote& zygote) {
  if (zygote.plan->copies.count == 0) return;
  for (std::uint32_t i = 0; i < zygote.plan->tree_count; ++i) {
    if (zygote.context.trees[i] >= 0) sys::Close(zygote.context.trees[i]);
  }
}

char* StackOf(const Zygote& zygote, std::uint32_t index) {
  return zygote.stacks + std::size_t{index} * kGuardedStackBytes + kStackGuardBytes;
}

// Guards that are mappings of their own (before Linux 6.13) would be copied with each worker that
// shares no memory.
void GuardStack(const Zygote& zygote, std::uint32_t index) {
  constexpr int kGuardInstall = 102;  // MADV_GUARD_INSTALL
  char* guard = StackOf(zygote, index) - kStackGuardBytes;
  if (sys::Call(__NR_madvise, sys::Arg(guard), kStackGuardBytes, kGuardInstall) >= 0) return;
  if (zygote.plan->share_memory == 0) return;
  sys::Call(__NR_mprotect, sys::Arg(guard), kStackGuardBytes, PROT_NONE);
}

// `anew`: not in the namespaces that the slot has.
void BearWorker(Zygote& zygote, std::uint32_t slot, bool anew) {
  const Plan& plan = *zygote.plan;
  const std::uint32_t slots = zygote.region->slot_count;
  // Slots are used from the first on, so stacks get their guards as they are needed.
  for (; zygote.guarded <= slot; ++zygote.guarded) GuardStack(zygote, zygote.guarded);
  Mailbox& box = *reinterpret_cast<Mailbox*>(zygote.slots + std::size_t{slot} * kSlotBytes);
  box.attributes = zygote.attributes;
  Slot& namespaces = zygote.namespaces[slot];
  if (anew) AwaitClonerEnd(namespaces);
  if (HasCloner(namespaces)) return OrderOfCloner(namespaces, box);

  zygote.context.box = &box;
  const int parent_fd = zygote.has_parent ? ZygoteFd::kParent : -1;
  if (!CopyTrees(zygote, box.failure)) {
    StoreState(box, WorkerState::kFailed);
    Notify(zygote.context);
    CloseTrees(zygote);
    return;
  }
  if (plan.slot_flags != 0) {
    if (namespaces.guarded == 0) GuardStack(zygote, slots + slot);
    namespaces.guarded = 1;
    OrderOfNewCloner({.slot = &namespaces,
                      .number = slot,
                      .stack = StackOf(zygote, slots + slot),
                      .worker_stack = StackOf(zygote, slot),
                      .parent_fd = parent_fd,
                      .control_fd = ZygoteFd::kControl,
                      .keep_below = ZygoteFd::kFirstPlanFd,
                      .keep_from = zygote.fds_from,
                      .keep_end = zygote.fds_end},
                     zygote.context);
    return CloseTrees(zygote);
  }
  BirthRequest request;
  request.context = zygote.context;
  request.stack = StackOf(zygote, slot);
  request.extra_flags = kernel::kCloneParent;
  request.parent_fd = parent_fd;
  // One that has its command goes on to exec by itself. From there on the program around the
  // launcher, or the kernel for it, may reap it as any other child: the launcher's pidfd comes
  // first. A parked one cannot pass away unnoticed: its launcher opens a pidfd when it wakes it.
  if (box.launch.argv != 0) {
    request.hand_to = ZygoteFd::kControl;
    request.slot = slot;
  }
  if (BirthWorker(request) < 0) Notify(zygote.context);
  CloseTrees(zygote);
}

// The launcher is gone: nobody is left to wait for its workers.
[[noreturn]] void KillParent(const Zygote& zygote) {
  if (zygote.has_parent) {
    const sys::Result kill = sys::OpenAt(ZygoteFd::kParent, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (kill >= 0) sys::Write(static_cast<int>(kill), "1", 1);
  }
  sys::ExitGroup(0);
}

// Whether whoever gives orders is gone. read(2) returns 0 for an empty message, too.
bool HungUp() {
  pollfd control = {ZygoteFd::kControl, 0, 0};
  const std::int64_t no_time[2] = {0, 0};
  return sys::Ppoll(&control, 1, no_time) > 0;
}

[[noreturn]] void Serve(Zygote& zygote) {
  std::uint32_t orders[kMaxOrders];
  for (;;) {
    const sys::Result received = sys::Read(ZygoteFd::kControl, orders, sizeof(orders));
    if (received == -4 /*EINTR*/) continue;
    if (received == 0 && !HungUp()) continue;
    if (received <= 0) KillParent(zygote);
    const auto count = static_cast<std::size_t>(received) / sizeof(orders[0]);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t slot = orders[i] & ~kNewSlot;
      if (slot >= zygote.region->slot_count) continue;
      BearWorker(zygote, slot, (orders[i] & kNewSlot) != 0);
    }
  }
}

[[noreturn]] void Main() {
  // They had to survive our exec, and shall not survive a worker's: the command would have the
  // launcher's mailboxes, the cgroups and the host's /proc in its hands.
  if (sys::CloseRange(ZygoteFd::kControl, ~0U, CLOSE_RANGE_CLOEXEC) < 0) sys::ExitGroup(125);
  Region header;
  const sys::Result got =
      sys::Call(__NR_pread64, ZygoteFd::kRegion, sys::Arg(&header), sizeof(header), 0);
  if (got != static_cast<sys::Result>(sizeof(header)) || header.magic != kRegionMagic ||
      header.version != kRegionVersion) {
    sys::ExitGroup(125);
  }
  const sys::Result base = Map(ZygoteFd::kRegion, header.bytes, MAP_SHARED);
  constexpr int kOwn = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const std::uint64_t stack_bytes = 2 * std::uint64_t{header.slot_count} * kGuardedStackBytes;
  const std::uint64_t slot_bytes = std::uint64_t{header.slot_count} * sizeof(Slot);
  const sys::Result stacks = Map(-1, stack_bytes, kOwn);
  const sys::Result namespaces = Map(-1, slot_bytes, kOwn);
  for (const sys::Result mapped : {base, stacks, namespaces}) {
    if (mapped < 0 && mapped > -4096) GiveUnmapped(header, mapped);
  }

  // A worker that shares no memory would have a copy of 2 MB for each of these, within its limit.
  constexpr int kNoHugePage = 15;  // MADV_NOHUGEPAGE
  sys::Call(__NR_madvise, stacks, static_cast<long>(stack_bytes), kNoHugePage);
  sys::Call(__NR_madvise, namespaces, static_cast<long>(slot_bytes), kNoHugePage);

  Zygote zygote;
  char* memory = reinterpret_cast<char*>(base);
  zygote.region = reinterpret_cast<Region*>(memory);
  zygote.plan = reinterpret_cast<const Plan*>(memory + header.plan_offset);
  zygote.slots = memory + header.slot_offset;
  zygote.stacks = reinterpret_cast<char*>(stacks);
  zygote.namespaces = reinterpret_cast<Slot*>(namespaces);
  zygote.region->base = static_cast<std::uint64_t>(base);
  zygote.has_parent =
      sys::Call(__NR_faccessat, ZygoteFd::kParent, sys::Arg("cgroup.procs"), 0) == 0;

  for (int i = 0; i < kMaxLanes; ++i) zygote.lanes[i] = ZygoteFd::kFirstLane + i;
  ChildContext& context = zygote.context;
  context.plan = zygote.plan;
  context.launcher_pidfd = ZygoteFd::kLauncher;
  context.notify_fd = ZygoteFd::kNotify;
  context.proc_fd = ZygoteFd::kProc;
  context.lanes = zygote.lanes;
  context.trees = trees;
  for (std::uint32_t i = 0; i < header.tree_count && i < kMaxTrees; ++i) {
    // /dev/null stands in for a tree that is not there; all others are opened with O_PATH.
    const int fd = ZygoteFd::kFirstPlanFd + static_cast<int>(i);
    const sys::Result flags = sys::Fcntl(fd, F_GETFL);
    context.trees[i] = flags >= 0 && (flags & O_PATH) != 0 ? fd : -1;
  }
  for (std::uint32_t i = 0; i < header.fd_count && i < kMaxPlanFds; ++i) {
    context.fds[i] = ZygoteFd::kFirstPlanFd + static_cast<int>(header.tree_count + i);
  }

  zygote.fds_from = ZygoteFd::kFirstPlanFd + static_cast<int>(header.tree_count);
  zygote.fds_end = zygote.fds_from + static_cast<int>(header.fd_count);

  // Once for all workers to come.
  ResetAttributes(kAllAttributes, 0, ZygoteFd::kProc, zygote.attributes);
  sys::Umask(0);  // modes of what the template creates are meant as written
  PrepareTemplate(zygote);
  DropCapabilities(zygote);
  InstallSeccomp(zygote);
  __atomic_store_n(&zygote.region->state, static_cast<std::uint32_t>(ZygoteState::kReady),
                   __ATOMIC_RELEASE);
  sys::FutexWake(&zygote.region->state, 1);
  Notify(context);
  Serve(zygote);
}

}  // namespace
}  // namespace brood

// Nothing in argv, env or auxv is used; only the stack must be aligned.
#if defined(__x86_64__)
__asm__(
    ".globl _start\n"
    "_start:\n"
    "xorl %ebp, %ebp\n"
    "andq $-16, %rsp\n"
    "callq ZygoteStart\n"
    "hlt\n");
#elif defined(__aarch64__)
__asm__(
    ".globl _start\n"
    "_start:\n"
    "mov x29, xzr\n"
    "bl ZygoteStart\n"
    "brk #0\n");
#endif

extern "C" [[noreturn, gnu::used]] void ZygoteStart() { brood::Main(); }

// The compiler may call these two for plain copies.
extern "C" void* memcpy(void* to, const void* from, std::size_t size) {
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  for (std::size_t i = 0; i < size; ++i) {
    out[i] = in[i];
    __asm__ volatile("" ::: "memory");  // or the loop becomes a call of itself
  }
  return to;
}
extern "C" void* memset(void* to, int value, std::size_t size) {
  char* out = static_cast<char*>(to);
  for (std::size_t i = 0; i < size; ++i) {
    out[i] = static_cast<char>(value);
    __asm__ volatile("" ::: "memory");
  }
  return to;
}
