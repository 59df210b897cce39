// SPDX-License-Identifier: Apache-2.0

// What launcher, zygote and one worker share: a fixed record in shared memory.
//
// Each field has one writer at a time, named beside it. `state` is a futex; every change is a
// release store, followed by a wake where a process may sleep on it. Freestanding.
#pragma once

#include <cstdint>
#include <type_traits>

#include "spawn/child/attributes.h"
#include "spawn/child/plan.h"
#include "spawn/failure.h"

namespace brood {

// Life of a worker as its mailbox tells it.
enum class WorkerState : std::uint32_t {
  kEmpty = 0,    // no worker                                     (launcher)
  kOrdered = 1,  // the zygote was asked for one                  (launcher)
  kBorn = 2,     // cloned; waits for its id maps                 (zygote or launcher)
  kMapped = 3,   // maps written; sets itself up                  (zygote or launcher)
  kParked = 4,   // complete; waits for a launch                  (worker)
  kLaunch = 5,   // `launch` is valid; goes on to exec            (launcher)
  kAbort = 6,    // must exit without running anything            (zygote or launcher)
  kFailed = 7,   // `failure` is valid; it exits or never lived   (worker, zygote or launcher)
  kUnclean = 8,  // no worker: its slot may not be used again     (cloner)
};

// One request, as absolute addresses in the memory the worker runs in.
struct LaunchRecord {
  std::uint64_t argv = 0;              // const char* const*, null-terminated
  std::uint64_t envp = 0;              // const char* const*, null-terminated
  std::uint64_t candidates = 0;        // const char* const*: paths to try, in PATH order
  std::uint64_t cwd = 0;               // const char*
  std::int32_t fds[3] = {-1, -1, -1};  // become 0, 1, 2; -1: leave as it is
  std::int32_t lane = -1;              // >= 0: receive the three descriptors over this lane instead
  // The worker opens a pseudo-terminal of its own devpts for 0, 1 and 2, and sends the master over
  // the socket fds[0].
  std::uint8_t terminal = 0;
  // The worker sends so many sockets that are not connected over fds[0], one by one; its stdin is
  // /dev/null then.
  std::uint8_t sockets = 0;
  // The same with one that listens on this port of its 127.0.0.1. 0: it does not.
  std::uint16_t port = 0;
  std::uint16_t rows = 0;  // its size; 0: unknown
  std::uint16_t columns = 0;
};

struct Mailbox {
  std::uint32_t state = 0;       // WorkerState, futex
  std::uint32_t alive = 0;       // 1 or a tid from clone until exec or death; see HasLetGo
  std::int32_t pid = 0;          // as the launcher sees it; the kernel writes it at the clone
  std::uint32_t lane_taken = 0;  // 1 once the worker has received its descriptors
  Failure failure;

  // How it is cloned (launcher).
  char leaf[40] = {};            // cgroup leaf's name below the parent cgroup; empty: none
  std::uint32_t inside_uid = 0;  // first ids inside
  std::uint32_t inside_gid = 0;
  std::uint32_t uid_base = 0;  // what they are outside
  std::uint32_t gid_base = 0;
  std::uint32_t id_count = 0;
  std::int32_t sys_error = 0;  // errno of a /sys of its own that was refused; 0: had (worker)
  std::int32_t net_error = 0;  // errno of a default of its network namespace; 0: had (worker)
  // Of its slot (spawn/child/slot.h; zygote).
  std::int32_t cloner = 0;      // that was made for it with this worker; 0: it had one (kernel)
  std::uint32_t slot_uses = 0;  // workers that its namespaces have had before this one
  // SlotFault for which those before were given up (cloner), or these will be (kUnsealed; worker).
  std::uint32_t slot_fault = 0;
  std::uint32_t slot_number = 0;  // within the pool (launcher)
  std::uint32_t passed_on = 0;    // 1: the order is its cloner's alone, the zygote is done (zygote)
  std::uint32_t cloner_ended = 0;  // 1: the slot's namespaces end with this worker (launcher)
  std::uint32_t reserved = 0;
  AttributeErrors attributes;  // (zygote or launcher; kOwnAttributes: worker)

  LaunchRecord launch;  // launcher, before kLaunch

  // CLOCK_MONOTONIC, ns (worker; the first two its parent).
  std::int64_t birth_ns = 0;     // clone3 is about to be called, in the parent
  std::int64_t cloned_ns = 0;    // clone3 returned, in the parent
  std::int64_t mapped_ns = 0;    // saw its maps
  std::int64_t parked_ns = 0;    // set up
  std::int64_t launched_ns = 0;  // saw the launch
  std::int64_t exec_ns = 0;      // about to exec
  std::int32_t idmap_error = 0;  // errno of an idmapped mount the filesystem refused; 0: had
  std::uint32_t op_count = 0;
  std::uint32_t op_us[kMaxTimedOps] = {};  // after each operation, since `born_ns`
  std::int64_t born_ns = 0;                // first thing the worker did
};
static_assert(std::is_trivially_copyable_v<Mailbox> && std::is_standard_layout_v<Mailbox>);
static_assert(std::has_unique_object_representations_v<Mailbox>);  // no padding, as in a plan

// Acquire and release of a word that two processes share.
inline WorkerState LoadState(const Mailbox& box) {
  return static_cast<WorkerState>(__atomic_load_n(&box.state, __ATOMIC_ACQUIRE));
}
// Whether the worker has exec'd or died, so that its launch is no longer read. The kernel clears
// `alive` of a worker that shares memory (CLONE_CHILD_CLEARTID); for another, `alive` is a robust
// futex, to which it adds FUTEX_OWNER_DIED.
inline bool HasLetGo(const Mailbox& box) {
  constexpr std::uint32_t kOwnerDied = 0x40000000;
  const std::uint32_t alive = __atomic_load_n(&box.alive, __ATOMIC_ACQUIRE);
  return alive == 0 || (alive & kOwnerDied) != 0;
}
inline void StoreState(Mailbox& box, WorkerState state) {
  __atomic_store_n(&box.state, static_cast<std::uint32_t>(state), __ATOMIC_RELEASE);
}

}  // namespace brood
