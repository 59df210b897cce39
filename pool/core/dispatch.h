// SPDX-License-Identifier: Apache-2.0

// Gives requests to workers: parked ones, clones made for them, cold ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/inbox.h"
#include "pool/core/pool_state.h"
#include "pool/core/refill.h"
#include "pool/core/supervise.h"
#include "pool/core/worker_records.h"

namespace brood {

// Belongs to the pool's thread.
class Dispatcher {
 public:
  Dispatcher(PoolState& pool, WorkerRecords& records, Supervisor& supervisor, Refill& refill)
      : pool_(pool), records_(records), supervisor_(supervisor), refill_(refill) {}

  // From the descriptors that this process may have: how many workers may run at once.
  absl::Status PrepareLimits();
  std::size_t deferred_closes_room() const { return deferred_closes_room_; }

  // Puts a request into its template's queue, or answers it: there is no such template, the queue
  // is full, it would not wait.
  void Admit(std::unique_ptr<ActiveRequest> request);
  // Frees a worker that its caller has launched and reaped.
  void TakeBack(Inbox::Used used);
  // Starts what may start now, of every template.
  void Run();
  // Whether requests stand in a queue only until a launch is over.
  bool HeldUp() const;
  // Answers the request if it still waits in a queue.
  bool Cancel(std::uint64_t number);
  void RefuseQueued();
  void Refuse(std::unique_ptr<ActiveRequest> request);

 private:
  bool HasRoom() const;
  bool MayLaunch() const;
  void Adopt(std::unique_ptr<ActiveRequest> request, Template& tmpl);
  bool Launch(std::uint32_t worker, std::unique_ptr<ActiveRequest>& request);
  void StartCold(std::uint32_t tmpl, std::unique_ptr<ActiveRequest> request);
  absl::Status MakeColdBlueprint(Template& tmpl, const Request& request, Worker& worker);

  PoolState& pool_;
  WorkerRecords& records_;
  Supervisor& supervisor_;
  Refill& refill_;
  std::uint32_t max_running_ = 0;
  std::uint64_t usable_fds_ = 0;
  std::size_t deferred_closes_room_ = 0;
};

}  // namespace brood
