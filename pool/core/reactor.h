// SPDX-License-Identifier: Apache-2.0

// The loop of the pool's own thread.
//
//   inbox -> Dispatcher -> Refill or a launch -> ring -> Supervisor -> callback
//
// Everything it owns is used by this thread alone, so nothing is locked (pool/core/pool_state.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/dispatch.h"
#include "pool/core/fd_watches.h"
#include "pool/core/inbox.h"
#include "pool/core/pool_state.h"
#include "pool/core/refill.h"
#include "pool/core/supervise.h"
#include "pool/core/templates.h"
#include "pool/core/worker_records.h"
#include "pool/pool.h"
#include "spawn/signal_order.h"

namespace brood {

class Reactor {
 public:
  Reactor(PoolOptions options, Inbox& inbox);
  ~Reactor();

  // Makes the parent cgroup, id ranges, ring, templates and zygotes.
  absl::Status Start();
  // Runs until a shutdown is complete.
  void Loop();
  // What could not be cleaned up; valid after Loop.
  const absl::Status& result() const { return result_; }

  // Tasks of other threads (Inbox::Task).
  void BeginShutdown(std::int64_t kill_at_ns);
  void SetParked(const std::string& name, std::uint32_t parked);
  using ParkedWaiter = std::function<void(absl::Status)>;
  void AwaitParked(const std::string& name, std::uint32_t count, std::int64_t deadline_ns,
                   ParkedWaiter waiter);
  PoolStats Stats() const;
  std::vector<int> ZygotePids() const;
  std::vector<int> SlotPids() const;
  absl::Status Kill(std::uint64_t request);
  absl::Status Signal(std::uint64_t request, const SignalOrder& order) {
    return supervisor_.Signal(request, order);
  }
  bool RunsCommand(std::uint64_t request) { return supervisor_.RunsCommand(request); }
  absl::Status PutTemplate(TemplateOptions options) { return templates_.Put(std::move(options)); }
  absl::Status RemoveTemplate(const std::string& name) { return templates_.Remove(name); }

  // For callbacks, which run in this thread.
  FdWatches& watches() { return *watches_; }
  unsigned FdsOfAWatch() const { return 1 + pool_.ring->fds_of_a_wait(); }

  // Shared with the callers' threads; by template name.
  std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> IdleLists() const;
  std::uint32_t launch_window() const { return pool_.options.launch_window; }
  std::string cgroup_path() const {
    return pool_.resources.parent ? pool_.resources.parent->path() : std::string();
  }

 private:
  struct Waiter {
    const Template* tmpl;  // stays in its place
    std::uint32_t count;
    std::int64_t deadline_ns;
    ParkedWaiter call;
  };

  void TakeInbox();
  void Handle(const Completion& completion);
  void Tick();
  std::chrono::nanoseconds NextTimeout() const;
  bool Idle() const;
  void AnswerWaiters();
  void EndEverything();

  Inbox& inbox_;
  PoolState pool_;
  WorkerRecords records_{pool_};
  Supervisor supervisor_{pool_, records_};
  Refill refill_{pool_, records_, supervisor_};
  Dispatcher dispatcher_{pool_, records_, supervisor_, refill_};
  Templates templates_{pool_, records_, refill_};
  std::optional<FdWatches> watches_;  // once there is a ring
  std::vector<Waiter> waiters_;
  std::uint64_t served_at_tick_ = 0;
  std::int64_t next_tick_ns_ = 0;
  std::optional<std::int64_t> kill_at_ns_;  // set by BeginShutdown
  absl::Status result_;
};

}  // namespace brood
