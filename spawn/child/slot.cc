// SPDX-License-Identifier: Apache-2.0

#include "spawn/child/slot.h"

#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>

namespace brood {
namespace {

constexpr std::uint32_t kAwaited = 0;
constexpr std::uint32_t kWritten = 1;
constexpr std::uint32_t kRefused = 2;

// What zygote and entrant share. On the zygote's stack.
struct Entrance {
  const SlotBirth* birth = nullptr;
  bool made = false;                   // it is born in new namespaces
  std::uint32_t maps = kWritten;       // of its new user namespace; futex (zygote)
  std::uint32_t alive = 0;             // cleared by the kernel when it lets go of the memory; futex
  SlotFault fault = SlotFault::kNone;  // why it cloned nobody (entrant)
  Failure failure;                     // the same, when a call failed (entrant)
  bool told = false;  // it has cloned the worker, or the mailbox says why not (entrant)
};

// The number after `key` in `text`; ~0 when it is not there.
std::uint64_t NumberAfter(const char* text, const char* key) {
  for (; *text != '\0'; ++text) {
    const char* at = text;
    const char* want = key;
    while (*want != '\0' && *at == *want) ++at, ++want;
    if (*want != '\0') continue;
    if (*at < '0' || *at > '9') break;
    std::uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; ++at) number = number * 10 + static_cast<unsigned>(*at - '0');
    return number;
  }
  return ~std::uint64_t{0};
}

// The kernel counts for each network namespace what is alive in it: sockets of every family, also
// those that somebody outside still holds or that have data to send; closed connections that wait;
// fragments that wait for the rest. (Of the file's other counts some are the whole machine's.)
SlotFault LookAtNetwork(const ChildContext& context) {
  char text[512];
  const sys::Result opened =
      sys::OpenAt(context.proc_fd, "thread-self/net/sockstat", O_RDONLY | O_CLOEXEC);
  if (opened < 0) return SlotFault::kUnknown;
  const int fd = static_cast<int>(opened);
  const sys::Result got = sys::Read(fd, text, sizeof(text) - 1);
  sys::Close(fd);
  if (got <= 0) return SlotFault::kUnknown;
  text[got] = '\0';
  const auto count = [&](const char* key) { return NumberAfter(text, key); };
  const std::uint64_t sockets = count("sockets: used ");
  const std::uint64_t waiting = count(" tw ");
  const std::uint64_t fragments = count("FRAG: inuse ");
  if ((sockets | waiting | fragments) == 0) return SlotFault::kNone;
  constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  if (sockets == kAbsent || waiting == kAbsent || fragments == kAbsent) return SlotFault::kUnknown;
  if (sockets != 0) return SlotFault::kSockets;
  return waiting != 0 ? SlotFault::kTimeWait : SlotFault::kFragments;
}

bool HasNetwork(const Plan& plan) { return (plan.slot_flags & kernel::kCloneNewNet) != 0; }

// The user namespace of a slot, opened once more.
int OpenUser(const Slot& slot, const Plan& plan) {
  constexpr unsigned long kNsGetUserns = 0xb701;  // NS_GET_USERNS, 4.9
  if (HasNetwork(plan)) return static_cast<int>(sys::Ioctl(slot.fd, kNsGetUserns, nullptr));
  return static_cast<int>(sys::Fcntl(slot.fd, F_DUPFD_CLOEXEC, 3));
}

sys::Result Enter(const Slot& slot, const Plan& plan) {
  const int user = OpenUser(slot, plan);
  if (user < 0) return user;
  sys::Result entered = sys::Setns(user, kernel::kCloneNewUser);
  if (entered >= 0 && HasNetwork(plan)) entered = sys::Setns(slot.fd, kernel::kCloneNewNet);
  sys::Close(user);
  return entered;
}

void AwaitChange(const std::uint32_t& word, std::uint32_t from) {
  while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == from) sys::FutexWait(&word, from);
}

void Go(Entrance& entrance) {
  const SlotBirth& birth = *entrance.birth;
  ChildContext& context = birth.worker->context;
  const Plan& plan = *context.plan;
  if (!entrance.made) {
    entrance.fault = SlotFault::kUnknown;  // until it is known
    const sys::Result entered =
        Injected(plan, Step::kJoinNamespace, 0) ? -plan.fail_error : Enter(*birth.slot, plan);
    if (entered < 0) return;
  }
  // From here on its descriptors are its own: the worker's copy of them has none of the slots'.
  const sys::Result closed =
      sys::CloseRange(static_cast<unsigned>(birth.first), ~0U, CLOSE_RANGE_UNSHARE);
  if (closed < 0) {
    entrance.failure = {Step::kCloseFds, 0xffff, static_cast<std::int32_t>(-closed)};
    return;
  }
  if (entrance.made) {
    AwaitChange(entrance.maps, kAwaited);
    if (__atomic_load_n(&entrance.maps, __ATOMIC_ACQUIRE) != kWritten) return;
  } else {
    entrance.fault = HasNetwork(plan) ? LookAtNetwork(context) : SlotFault::kNone;
    if (entrance.fault != SlotFault::kNone) return;
  }
  BirthWorker(*birth.worker);
  entrance.told = true;
}

[[noreturn]] void EntrantMain(void* argument) {
  Go(*static_cast<Entrance*>(argument));
  sys::ExitGroup(0);
}

// Clones the entrant; `pid` is where the launcher learns of it.
sys::Result Clone(Entrance& entrance, std::uint64_t flags, std::int32_t& pid) {
  kernel::CloneArgs args;
  args.flags = flags | kernel::kCloneVm | kernel::kCloneFiles | kernel::kCloneParent |
               kernel::kCloneParentSettid | kernel::kCloneChildCleartid;
  args.parent_tid = reinterpret_cast<std::uint64_t>(&pid);
  args.child_tid = reinterpret_cast<std::uint64_t>(&entrance.alive);
  args.stack = reinterpret_cast<std::uint64_t>(entrance.birth->stack);
  args.stack_size = kWorkerStackBytes;
  entrance.alive = 1;
  return sys::Clone3(args, EntrantMain, &entrance);
}

// The entrant has ended: what it has done is in the mailbox, or it has failed.
void Conclude(const SlotBirth& birth, const Entrance& entrance) {
  if (birth.slot->fd != 0) ++birth.slot->uses;
  // The mailbox is not to be looked at: it may be the next worker's already.
  if (entrance.told) return;
  // It was refused, or killed. If the latter, it may have cloned the worker before.
  const Mailbox& box = *birth.worker->context.box;
  if (box.pid > 0 || LoadState(box) >= WorkerState::kAbort) return;
  const Failure& failure = entrance.failure;
  const Step step = failure.failed() ? failure.step : Step::kCloneWorker;
  RefuseBirth(*birth.worker, step, failure.failed() ? -failure.error : -ESRCH);
}

// `idmapped`: the trees are, with the same ids, for the slot's namespaces that were not clean.
void BirthInNewSlot(const SlotBirth& birth, bool idmapped) {
  Mailbox& box = *birth.worker->context.box;
  const Plan& plan = *birth.worker->context.plan;
  box.slot_uses = 0;
  Entrance entrance;
  entrance.birth = &birth;
  entrance.made = true;
  entrance.maps = kAwaited;
  const sys::Result pid = Injected(plan, Step::kCloneWorker, 0)
                              ? -plan.fail_error
                              : Clone(entrance, plan.slot_flags, box.entrants[1]);
  if (pid < 0) {
    RefuseBirth(*birth.worker, Step::kCloneWorker, pid);
    return;
  }
  const sys::Result mapped =
      Injected(plan, Step::kMapIds, 0) ? -plan.fail_error : MapIds(*birth.worker, pid);
  if (mapped < 0) entrance.failure = {Step::kMapIds, 0, static_cast<std::int32_t>(-mapped)};
  if (mapped >= 0) {
    if (plan.idmaps.count != 0 && !idmapped) {
      IdmapTrees(*birth.worker, OpenOfProcess(birth.worker->proc_fd, pid, "ns/user", O_RDONLY));
    }
    const int opened = OpenOfProcess(birth.worker->proc_fd, pid,
                                     HasNetwork(plan) ? "ns/net" : "ns/user", O_RDONLY);
    // Without a descriptor free for it, it is not kept: the next worker gets new ones, too.
    if (opened >= 0) {
      if (sys::Dup3(opened, birth.number, O_CLOEXEC) >= 0) birth.slot->fd = birth.number;
      sys::Close(opened);
    }
  }
  __atomic_store_n(&entrance.maps, mapped < 0 ? kRefused : kWritten, __ATOMIC_RELEASE);
  sys::FutexWake(&entrance.maps, 1);
  AwaitChange(entrance.alive, 1);
  Conclude(birth, entrance);
  if (!entrance.told) DropSlot(*birth.slot);
}

// True when the slot was clean: a worker has been cloned in it, or the mailbox says why not.
bool BirthInOldSlot(const SlotBirth& birth) {
  Mailbox& box = *birth.worker->context.box;
  const Plan& plan = *birth.worker->context.plan;
  box.slot_uses = birth.slot->uses;
  if (plan.idmaps.count != 0) IdmapTrees(*birth.worker, OpenUser(*birth.slot, plan));
  Entrance entrance;
  entrance.birth = &birth;
  const sys::Result pid = Clone(entrance, kernel::kCloneVfork, box.entrants[0]);
  if (pid < 0) {
    RefuseBirth(*birth.worker, Step::kCloneWorker, pid);
    return true;
  }
  if (entrance.fault == SlotFault::kNone) {
    Conclude(birth, entrance);
    return true;
  }
  box.slot_fault = static_cast<std::uint32_t>(entrance.fault);
  return false;
}

}  // namespace

void DropSlot(Slot& slot) {
  if (slot.fd != 0) sys::Close(slot.fd);
  slot = {};
}

void BirthInSlot(const SlotBirth& birth) {
  birth.worker->context.proc_fd = birth.worker->proc_fd;
  const bool has_namespaces = birth.slot->fd != 0;
  if (has_namespaces) {
    if (BirthInOldSlot(birth)) return;
    DropSlot(*birth.slot);
  }
  BirthInNewSlot(birth, /*idmapped=*/has_namespaces);
}

}  // namespace brood
