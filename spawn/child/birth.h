// SPDX-License-Identifier: Apache-2.0

// Cloning one worker: clone3 into its cgroup, then its id maps. Used by the launcher for the cold
// path, by the zygote, and by cloners; the only place that calls clone3 for a worker. Freestanding.
#pragma once

#include "spawn/child/child.h"

namespace brood {

inline constexpr std::size_t kWorkerStackBytes = 16384;
// Below each stack lies a guard of this size that may not be touched: a stack that overflows ends
// its process, and does not overwrite its neighbour.
inline constexpr std::size_t kStackGuardBytes = 4096;
inline constexpr std::size_t kGuardedStackBytes = kStackGuardBytes + kWorkerStackBytes;
// What is left of a stack below `bytes` at its top, which start 64-byte aligned.
constexpr std::size_t StackBelow(std::size_t bytes) {
  return (kWorkerStackBytes - bytes) & ~std::size_t{63};
}

// `bytes` in whole pages. What is laid out one behind the other in memory shared with a worker (its
// mailbox and launch, the plan, slots, its stack) starts on a page each.
constexpr std::size_t PageUp(std::size_t bytes) { return (bytes + 4095) & ~std::size_t{4095}; }

struct BirthRequest {
  ChildContext context;   // copied onto the stack; its /proc is of the caller's pid namespace
  char* stack = nullptr;  // kWorkerStackBytes, writable, free until the worker execs or dies
  std::uint64_t extra_flags = 0;  // CLONE_PARENT, CLONE_PIDFD
  int* pidfd = nullptr;           // written with CLONE_PIDFD
  int parent_fd = -1;  // directory of the cgroup leaves; -1: stay in the cloning process's cgroup
  // >= 0: a socket over which the launcher gets the worker's pidfd (SendWorker) before the worker
  // can come to its exec.
  int hand_to = -1;
  std::uint32_t slot = 0;        // to be told with it
  std::uint32_t attributes = 0;  // the caller's attributes that the worker must not inherit
};

// Clones the worker described by `request` and writes its maps. The mailbox must be kOrdered (or
// kEmpty). Returns its pid; on failure -errno, with the mailbox's `failure` and kFailed set, and
// nothing running that will go on (a child already cloned exits by itself and must be reaped).
// With MapsBy::kLauncher the worker stays kBorn, and FinishBirth is still to be called.
sys::Result BirthWorker(BirthRequest& request);

// Writes the id maps of a child in a new user namespace, from the plan or the mailbox.
sys::Result MapIds(const BirthRequest& request, sys::Result pid);
// Shows the trees of Plan::idmaps with the ids of a user namespace: a descriptor, which is closed,
// or -errno.
void IdmapTrees(const BirthRequest& request, int user_namespace);
// Opens a file of /proc/PID, close-on-exec; -errno.
int OpenOfProcess(int proc_fd, sys::Result pid, const char* file, int flags);

// Notes in the mailbox that `step` has failed with `result`, -errno, and returns that.
sys::Result RefuseBirth(BirthRequest& request, Step step, sys::Result result);

// Lets a worker in kBorn go on, its maps having been written, or ends it: `mapped` is 0 or -errno.
// Returns its pid, or -errno as BirthWorker does.
sys::Result FinishBirth(BirthRequest& request, sys::Result pid, sys::Result mapped);

}  // namespace brood
