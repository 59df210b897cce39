// SPDX-License-Identifier: Apache-2.0

// Workers that have a request: from the launch to the outcome.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/pool_state.h"
#include "pool/core/worker_records.h"
#include "spawn/signal_order.h"

namespace brood {

// Belongs to the pool's thread. The rules for one worker are Session's (spawn/launch/session.h);
// this tells it what the ring has seen, and keeps the records.
class Supervisor {
 public:
  Supervisor(PoolState& pool, WorkerRecords& records) : pool_(pool), records_(records) {}

  // Prepares what the command shall have as stdin, stdout and stderr, and sends it to a worker of a
  // zygote. `not_now`: no lane is free for it.
  absl::Status GiveStdio(Worker& worker, const Command& command, bool& not_now);

  // The request is this worker's, which is on its way to its command.
  void Begin(std::uint32_t worker, std::unique_ptr<ActiveRequest> request);
  // The request that Begin gave it, back: the worker will not run it to an end.
  std::unique_ptr<ActiveRequest> TakeRequest(std::uint32_t worker);
  // Waits for the end, the output and the deadline of a worker that has been cloned, and tells
  // whoever asked that it has started. Abandons one that cannot be watched, or for which `ready`
  // is an error.
  void Watch(std::uint32_t worker, absl::Status ready = absl::OkStatus());
  // It has not even been cloned, and its mailbox says why.
  void NeverStarted(std::uint32_t worker);
  // Kills and reaps it, and answers its request with `why`.
  void Abandon(std::uint32_t worker, const absl::Status& why);
  // Kills a worker of a zygote, and reaps it if nobody has.
  void EndUnseen(const Worker& worker);

  // What the ring reports.
  void OnExit(std::uint32_t worker);
  void OnOutput(std::uint32_t worker, std::size_t stream);
  // Ends those whose deadline is over at `now_ns`.
  void EndOverdue(std::int64_t now_ns);
  std::optional<std::int64_t> next_deadline_ns() const;
  // Forgets the launches that are over; ends those that a frozen cgroup holds.
  void LookAtLaunches();

  absl::Status Signal(std::uint64_t request, const SignalOrder& order);
  // False when no worker has the request.
  bool Kill(std::uint64_t request);
  bool RunsCommand(std::uint64_t request);
  // Every worker, parked ones too.
  void KillAll();

  std::uint32_t running() const { return running_; }
  // Workers that have a request and have not been seen to exec.
  std::size_t launching() const { return launching_.size(); }

  // An outcome with all that is known before its end.
  Outcome NewOutcome(const Worker& worker, const ActiveRequest& request) const;

 private:
  absl::Status AwaitEvents(std::uint32_t worker);
  void TellStarted(const Worker& worker) const;
  bool HasExeced(const Worker& worker) const;
  Worker* RunningFor(std::uint64_t request);
  void Finish(std::uint32_t worker);

  PoolState& pool_;
  WorkerRecords& records_;
  std::uint32_t running_ = 0;
  std::vector<std::uint32_t> launching_;
  std::multimap<std::int64_t, Token> deadlines_;
};

}  // namespace brood
