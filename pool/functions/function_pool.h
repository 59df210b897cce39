// SPDX-License-Identifier: Apache-2.0

// One function: its limits, the calls that wait and run, and the workers primed for it.
//
//   Call -> Enter -> (queue) -> Take -> FunctionWorker -> Call
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/functions/fork_server.h"
#include "pool/functions/function.h"
#include "pool/functions/function_worker.h"
#include "pool/functions/metrics.h"
#include "pool/functions/warm_pool.h"
#include "pool/pool.h"

namespace brood {

// Only in the pool's thread. Held by the router that serves it, and by its calls.
class FunctionPool : public std::enable_shared_from_this<FunctionPool> {
 public:
  // Hears of what is no call's: why a process that is kept ahead of calls has ended, and the last
  // of its stderr; or, without a reason, more of the stderr of one that goes on.
  using ProcessLog = std::function<void(std::string_view why, std::string_view err)>;
  // `metrics`: of all functions that ever had this name.
  FunctionPool(Pool& pool, Timers& timers, FunctionOptions options,
               std::shared_ptr<FunctionMetrics> metrics, ProcessLog log)
      : pool_(pool),
        timers_(timers),
        options_(std::move(options)),
        metrics_(std::move(metrics)),
        log_(std::move(log)) {}
  ~FunctionPool();

  // Starts priming.
  void Open();
  // Ends what is primed, and primes no more. Calls go on.
  void Close();
  // Close, for one that no new call comes to; `gone` is called when the last has ended.
  void Retire(std::function<void()> gone);

  // A call that wants to run. `go` is called when it may, at once or later.
  struct Waiting {
    std::function<void()> go;
  };
  using Place = std::shared_ptr<Waiting>;
  // kResourceExhausted when the queue is full.
  absl::StatusOr<Place> Enter(std::function<void()> go);
  // Every call that has entered leaves, once: it has run, or given up waiting.
  void Leave(const Place& place);

  // A worker for a call that may run. `hit`: it was started ahead, and waited. `environment`: of
  // the call, for one that is started for it.
  struct Taken {
    std::shared_ptr<FunctionWorker> worker;
    bool hit = false;
  };
  absl::StatusOr<Taken> Take(const std::vector<std::string>& environment);

  // The isolates of a function that is warm; null where it is not.
  const std::shared_ptr<WarmPool>& warm() const { return warm_; }

  // Whether calls are over in a moment and say little, as far as the last one tells.
  bool brief() const { return brief_; }
  void set_brief(bool brief) { brief_ = brief; }

  const FunctionOptions& options() const { return options_; }
  FunctionMetrics& metrics() { return *metrics_; }
  const std::shared_ptr<FunctionMetrics>& shared_metrics() const { return metrics_; }
  // Of a forked function.
  bool process_ready() const { return forks_ && forks_->ready(); }
  // Why there is nothing ready for a call, where something should be; empty: there is, or it comes.
  std::string problem() const { return ready() ? "" : problem_; }
  // What is to be kept ahead of calls is there, or some of it.
  bool ready() const;
  std::size_t primed() const;  // that wait for a call
  std::size_t running() const { return running_; }
  std::size_t queued() const { return queue_.size(); }

 private:
  void Prime();
  void StartProcess();
  void OnProcessEnded(std::string_view why, std::string_view err);
  void NoteProblem(std::string_view why, std::string_view err);
  void PrimeAfter(std::chrono::nanoseconds delay);
  void PrimeInTime();
  bool plenty() const { return 2 * primed_.size() >= options_.min; }
  void OnPrimedEnd(const FunctionWorker* worker);
  void NoteLost(const FunctionWorker& worker);

  Pool& pool_;
  Timers& timers_;
  FunctionOptions options_;
  std::shared_ptr<FunctionMetrics> metrics_;
  ProcessLog log_;
  std::shared_ptr<ForkServer> forks_;                  // kForked; null while there is no process
  std::shared_ptr<WarmPool> warm_;                     // kWarm
  std::string problem_;                                // why the last process has ended
  int process_failures_ = 0;                           // in a row
  std::list<std::shared_ptr<FunctionWorker>> primed_;  // oldest first
  std::deque<Place> queue_;
  std::size_t running_ = 0;
  int failures_ = 0;                   // primed workers in a row that ended before a call
  std::int64_t taken_ns_ = 0;          // when a call last took a primed worker
  std::optional<Timers::Id> waiting_;  // a timer that will prime
  bool brief_ = true;
  bool closed_ = true;
  std::function<void()> gone_;
};

}  // namespace brood
