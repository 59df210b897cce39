// SPDX-License-Identifier: Apache-2.0

// The only code that runs between clone3 and exec.
//
// Everything here is freestanding: it works on plain data, calls the kernel through
// spawn/child/syscalls.h, and keeps no state, because a worker shares its parent's memory until it
// execs. It is compiled without sanitizers, stack protector and exceptions, and a test checks that
// the object needs nothing but memcpy and memset.
#pragma once

#include <cstddef>

#include "spawn/child/mailbox.h"
#include "spawn/child/plan.h"
#include "spawn/child/syscalls.h"
#include "spawn/failure.h"

namespace brood {

inline constexpr int kMaxLanes = 16;

// What the operations of a plan act on. Copied to the top of the worker's stack, with its trees.
struct ChildContext {
  const Plan* plan = nullptr;
  Mailbox* box = nullptr;
  int fds[kMaxPlanFds] = {};          // Op::index of kSetns
  int* trees = nullptr;               // Plan::tree_count detached mount trees, -1 where none
  int root_fd = -1;                   // of the root that has been entered; -1: the host's still
  int launcher_pidfd = -1;            // to notice a launcher that died before PR_SET_PDEATHSIG
  int notify_fd = -1;                 // eventfd written when the worker parks or fails; -1: none
  std::uint64_t ignored_signals = 0;  // to be reset; neither clone3 nor exec does
  const int* lanes = nullptr;         // sockets over which a launch's descriptors come
  std::int64_t clock_shift_ns = 0;    // see Now
  int proc_fd = -1;                   // the launcher's /proc; -1: a forked call has its own alone
  std::uint32_t attributes = 0;       // to be put back by the worker itself (kOwnAttributes)
};

// The launcher's CLOCK_MONOTONIC, also where this process has entered a time namespace.
inline std::int64_t Now(const ChildContext& context) {
  return sys::MonotonicNs() - context.clock_shift_ns;
}

// Runs the operations of `list` from `first` up to, not including, `end`. On failure writes
// {step, index, errno} and returns false. `box`, when not null, gets the time after each operation
// if the plan asks for it.
bool RunOps(const OpList& list, std::uint32_t first, std::uint32_t end, ChildContext& context,
            Mailbox* box, Failure& failure);

// The operations that mount, and make what is mounted (spawn/child/child_mounts.cc). 0 or more, or
// -errno; -EPROTO for another operation.
sys::Result RunMountOp(const Op& op, ChildContext& context);

// Copies `from` and its trees, for which there is room behind `to`.
void CopyContext(ChildContext& to, const ChildContext& from);

// Tells the launcher to look at mailboxes.
void Notify(const ChildContext& context);

// What a zygote tells its launcher of a worker, in one message with the worker's pidfd.
struct HandedWorker {
  std::uint32_t slot = 0;
  std::int32_t pid = 0;
};
// Sends it without waiting. 0 or more, or -errno.
sys::Result SendWorker(int socket, const HandedWorker& worker, int pidfd);

// Has the kernel end this process with its parent thread, from whenever this returns 0; -ECANCELED
// when the process behind `launcher_pidfd`, where that is not -1, has ended before.
sys::Result DieWithLauncher(int launcher_pidfd);

// Keeps the capabilities of the mask `keep` and no others, and takes them along through exec, also
// without being root. 0 or -errno.
sys::Result KeepCapabilities(std::uint64_t keep);

// A worker's whole life up to exec. `argument` is a ChildContext. Never returns.
[[noreturn]] void WorkerMain(void* argument);

// True when the plan's test switch makes this operation fail.
inline bool Injected(const Plan& plan, Step step, std::uint16_t index, bool in_template = false) {
  return plan.fail_error != 0 && plan.fail_step == step &&
         (plan.fail_index == 0xffff || plan.fail_index == index) &&
         (plan.fail_in_template != 0) == in_template;
}

}  // namespace brood
