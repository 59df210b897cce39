// SPDX-License-Identifier: Apache-2.0

// The records of the pool's own thread: requests on their way, and workers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pool/pool.h"
#include "spawn/base/unique_fd.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/keep_namespaces.h"
#include "spawn/launch/session.h"
#include "spawn/outcome.h"

namespace brood {

// A request that was accepted and whose callback has not been called.
struct ActiveRequest {
  std::uint64_t id = 0;
  Request request;
  Pool::Callback callback;
  std::int64_t submitted_ns = 0;
  // The worker that the caller's own thread has launched for it (pool/core/idle_list.h).
  std::optional<std::uint32_t> launched;
  absl::StatusOr<UniqueFd> pidfd = UniqueFd();  // of it
  int attempts = 0;  // workers that died parked and took this request with them
  std::vector<Fallback> fallbacks;
};

// kFree -> kOrdered -> kParked -> kRunning -> kFree; a worker that serves a request of its own
// (zygote and cold path) skips kParked.
enum class WorkerPhase : std::uint8_t { kFree, kOrdered, kParked, kRunning };

struct Worker {
  WorkerPhase phase = WorkerPhase::kFree;
  std::uint32_t generation = 0;  // counts uses; completions for an earlier one are stale
  std::uint32_t tmpl = 0;        // index of its template
  std::uint32_t keeper = 0;      // index of its zygote's keeper; not for a cold one
  std::uint32_t slot = 0;        // in the zygote
  std::string leaf;              // its cgroup; empty: none
  std::uint32_t id_first = 0;    // its host ids; 0: none
  SpawnPath path = SpawnPath::kParked;

  std::unique_ptr<ActiveRequest> request;
  std::optional<Blueprint> own_blueprint;  // of a request with a spec of its own
  bool own_leaf = false;                   // made for this worker alone, not of the stock
  std::optional<ColdWorker> cold;
  UniqueFd pidfd;  // of a running worker from a zygote
  KeptNamespaces kept;
  LentTerminals terminals;
  // Linux 6.14 compares a kill count with that of the cloning process's cgroup, not of the cgroup
  // cloned into: in one that was ever killed (Session::leaf_spoilt), every new process dies.
  Session session;
  std::int64_t ordered_ns = 0;  // when a zygote was asked for it
  std::int64_t launching_since_ns = 0;

  // Ready for its next use.
  void Reset() {
    const std::uint32_t next = generation + 1;
    *this = Worker();
    generation = next;
  }
};

}  // namespace brood
