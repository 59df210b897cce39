// SPDX-License-Identifier: Apache-2.0

#include "spawn/child/slot.h"

#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>

namespace brood {
namespace {

// Slot::order.
constexpr std::uint32_t kNothing = 0;
constexpr std::uint32_t kWorker = 1;
constexpr std::uint32_t kNoMaps = 2;  // a new cloner's ids are not mapped yet

// What a cloner works with, at the top of its stack; the numbers of its trees come behind it.
struct Cloner {
  SlotPlace place;
  int sockstat = -1;
  int sockstat6 = -1;  // negative: the kernel has no IPv6
  ChildContext context;
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
SlotFault LookAtNetwork(const Cloner& cloner) {
  const Plan& plan = *cloner.context.plan;
  if ((plan.slot_flags & kernel::kCloneNewNet) == 0) return SlotFault::kNone;
  if (Injected(plan, Step::kJoinNamespace, 0)) return SlotFault::kUnknown;
  char text[512];
  // Read from its beginning, a file is written anew.
  const auto read = [&](int file) {
    const sys::Result got = sys::Pread(file, text, sizeof(text) - 1, 0);
    text[got > 0 ? got : 0] = '\0';
  };
  const auto count = [&](const char* key) { return NumberAfter(text, key); };
  constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  std::uint64_t fragments6 = 0;
  if (cloner.sockstat6 >= 0) {
    read(cloner.sockstat6);
    fragments6 = count("FRAG6: inuse ");
  }
  read(cloner.sockstat);
  const std::uint64_t sockets = count("sockets: used ");
  const std::uint64_t waiting = count(" tw ");
  const std::uint64_t fragments = count("FRAG: inuse ");
  if ((sockets | waiting | fragments | fragments6) == 0) return SlotFault::kNone;
  for (const std::uint64_t each : {sockets, waiting, fragments, fragments6}) {
    if (each == kAbsent) return SlotFault::kUnknown;
  }
  if (sockets != 0) return SlotFault::kSockets;
  return waiting != 0 ? SlotFault::kTimeWait : SlotFault::kFragments;
}

void AwaitChange(const std::uint32_t& word, std::uint32_t from) {
  while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == from) sys::FutexWait(&word, from);
}

void SetOrder(Slot& slot, std::uint32_t order) {
  __atomic_store_n(&slot.order, order, __ATOMIC_RELEASE);
  sys::FutexWake(&slot.order, 1);
}

// The zygote's last look at the mailbox.
void PassOn(Slot& slot, Mailbox& box) {
  __atomic_store_n(&box.passed_on, 1U, __ATOMIC_RELEASE);
  SetOrder(slot, kWorker);
}

BirthRequest RequestOf(const ChildContext& context) {
  BirthRequest request;
  request.context = context;
  return request;
}

// There will be no worker, and it was nobody else who said so.
void Refuse(const ChildContext& context, const Failure& failure) {
  context.box->failure = failure;
  StoreState(*context.box, WorkerState::kFailed);
  Notify(context);
}

// Does what the slot's workers can share.
bool Prepare(Cloner& cloner, Failure& failure) {
  ChildContext& context = cloner.context;
  const Plan& plan = *context.plan;
  const SlotPlace& place = cloner.place;
  const auto must = [&](Step step, sys::Result result) {
    if (result < 0) failure = {step, 0xffff, static_cast<std::int32_t>(-result)};
    return result >= 0;
  };
  sys::Prctl(PR_SET_NAME, reinterpret_cast<unsigned long>("brood-slot"));
  if (!RunOps(plan.worker, 0, plan.slot_ops, context, nullptr, failure)) return false;
  // A worker begins with a copy of what is open here.
  const auto close = [](int first, unsigned end) {
    return sys::CloseRange(static_cast<unsigned>(first), end - 1, 0);
  };
  if (place.keep_below < place.keep_from) {
    const sys::Result closed = close(place.keep_below, static_cast<unsigned>(place.keep_from));
    if (!must(Step::kCloseFds, closed)) return false;
  }
  if (!must(Step::kCloseFds, close(place.keep_end, 0))) return false;
  // A worker is in another mount namespace: it finds its root by itself.
  context.root_fd = -1;
  const auto open = [&](const char* file) {
    return static_cast<int>(sys::OpenAt(context.proc_fd, file, O_RDONLY | O_CLOEXEC));
  };
  cloner.sockstat = open("self/net/sockstat");
  cloner.sockstat6 = open("self/net/sockstat6");
  // What could not be opened can never be read, and so the network namespace is used once.
  if (cloner.sockstat6 < 0 && cloner.sockstat6 != -ENOENT) cloner.sockstat = -1;
  return true;
}

// Clones one worker. Its mailbox may be the next one's as soon as it runs.
void Bear(Cloner& cloner) {
  const ChildContext& context = cloner.context;
  Slot& slot = *cloner.place.slot;
  if (slot.uses++ != 0) {
    const SlotFault fault = LookAtNetwork(cloner);
    if (fault != SlotFault::kNone) {
      context.box->slot_fault = static_cast<std::uint32_t>(fault);
      StoreState(*context.box, WorkerState::kUnclean);
      Notify(context);
      sys::ExitGroup(0);
    }
  }
  BirthRequest request = RequestOf(context);
  request.stack = cloner.place.worker_stack;
  request.extra_flags = kernel::kCloneParent;
  request.parent_fd = cloner.place.parent_fd;
  request.slot = cloner.place.number;
  if (context.box->launch.argv != 0) request.hand_to = cloner.place.control_fd;
  if (BirthWorker(request) < 0) Notify(context);
}

[[noreturn]] void ClonerMain(void* argument) {
  Cloner& cloner = *static_cast<Cloner*>(argument);
  Slot& slot = *cloner.place.slot;
  if (DieWithLauncher(cloner.context.launcher_pidfd) < 0) sys::ExitGroup(125);
  AwaitChange(slot.order, kNoMaps);
  if (__atomic_load_n(&slot.order, __ATOMIC_ACQUIRE) != kWorker) sys::ExitGroup(125);
  Failure failure;
  if (!Prepare(cloner, failure)) {
    Refuse(cloner.context, failure);
    sys::ExitGroup(125);
  }
  for (;;) {
    // Before the worker, whose successor may be ordered while this is still at its birth.
    __atomic_store_n(&slot.order, kNothing, __ATOMIC_RELEASE);
    Bear(cloner);
    AwaitChange(slot.order, kNothing);
  }
}

}  // namespace

bool HasCloner(const Slot& slot) { return __atomic_load_n(&slot.alive, __ATOMIC_ACQUIRE) != 0; }

void AwaitClonerEnd(const Slot& slot) {
  while (HasCloner(slot)) sys::FutexWait(&slot.alive, 1);
}

void OrderOfCloner(Slot& slot, Mailbox& box) {
  box.slot_uses = slot.uses;
  PassOn(slot, box);
}

void OrderOfNewCloner(const SlotPlace& place, const ChildContext& context) {
  const Plan& plan = *context.plan;
  Mailbox& box = *context.box;
  Slot& slot = *place.slot;
  box.slot_uses = 0;
  slot.uses = 0;
  __atomic_store_n(&slot.order, kNoMaps, __ATOMIC_RELEASE);
  __atomic_store_n(&slot.alive, 1U, __ATOMIC_RELEASE);

  kernel::CloneArgs args;
  args.flags = plan.slot_flags | kernel::kCloneVm | kernel::kCloneParent |
               kernel::kCloneParentSettid | kernel::kCloneChildCleartid;
  args.parent_tid = reinterpret_cast<std::uint64_t>(&box.cloner);
  args.child_tid = reinterpret_cast<std::uint64_t>(&slot.alive);
  args.stack = reinterpret_cast<std::uint64_t>(place.stack);
  args.stack_size = StackBelow(sizeof(Cloner) + plan.tree_count * sizeof(int));
  auto* cloner = reinterpret_cast<Cloner*>(place.stack + args.stack_size);
  *cloner = Cloner{};
  cloner->place = place;
  CopyContext(cloner->context, context);
  const sys::Result pid = Injected(plan, Step::kCloneWorker, 0)
                              ? -plan.fail_error
                              : sys::Clone3(args, ClonerMain, cloner);
  if (pid < 0) {
    __atomic_store_n(&slot.alive, 0U, __ATOMIC_RELEASE);
    return Refuse(context, {Step::kCloneWorker, 0, static_cast<std::int32_t>(-pid)});
  }
  const BirthRequest request = RequestOf(context);
  const sys::Result mapped =
      Injected(plan, Step::kMapIds, 0) ? -plan.fail_error : MapIds(request, pid);
  if (mapped < 0) {
    SetOrder(slot, kNothing);
    return Refuse(context, {Step::kMapIds, 0, static_cast<std::int32_t>(-mapped)});
  }
  if (plan.idmaps.count != 0) {
    IdmapTrees(request, OpenOfProcess(context.proc_fd, pid, "ns/user", O_RDONLY));
  }
  PassOn(slot, box);
}

}  // namespace brood
