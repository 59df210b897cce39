// SPDX-License-Identifier: Apache-2.0

// The isolates of a warm function: each serves many calls, one after the other.
//
//   Serve -> (an isolate asks) -> LambdaRuntime::Give -> ... -> FunctionWorker::End -> asks again
//
// A call waits for whichever isolate asks first, and no later call overtakes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/functions/error_tail.h"
#include "pool/functions/function.h"
#include "pool/functions/function_worker.h"
#include "pool/functions/watched.h"
#include "pool/pool.h"

namespace brood {

// Only in the pool's thread. Held by the function's pool; what outlives it has weak references.
class WarmPool : public std::enable_shared_from_this<WarmPool> {
 public:
  WarmPool(Pool& pool, Timers& timers, const FunctionOptions& function)
      : pool_(pool), timers_(timers), function_(function) {}
  ~WarmPool();

  // Starts `min` isolates, and goes on keeping so many.
  void Open();
  // Ends those that are idle, and each other one after its call.
  void Close();

  // A worker for one call, whose end is told as that of any other, while its isolate goes on.
  struct Served {
    std::shared_ptr<FunctionWorker> worker;
    bool hit = false;     // an isolate waits for it
    bool missed = false;  // there is none at all
  };
  absl::StatusOr<Served> Serve();

  std::size_t idle() const;

 private:
  struct Isolate {
    explicit Isolate(Pool& pool) : errors_watch(pool) {}
    std::shared_ptr<FunctionWorker> host;  // the pool's worker
    std::shared_ptr<FunctionWorker> call;  // null: none under way
    std::uint64_t served = 0;
    std::int64_t born_ns = 0;
    std::int64_t free_since_ns = 0;  // when its last call was over
    bool asked = false;              // ever
    bool leaving = false;            // it has been ended
    Watched errors_watch;
    ErrorTail errors;  // what it has said since its last call was over, or began
  };
  using Held = std::shared_ptr<Isolate>;

  absl::Status Start();
  void StartMore();
  void Admit(const std::shared_ptr<FunctionWorker>& call);
  void Give(const Held& isolate, const std::shared_ptr<FunctionWorker>& call);
  void OnAsk(const Held& isolate);
  void OnServed(const Held& isolate);
  void OnHostEnded(const Held& isolate);
  void EndIsolate(Isolate& isolate);
  void Kill(const std::shared_ptr<FunctionWorker>& call);
  void FailOldest(absl::StatusOr<Outcome> outcome, Isolate* isolate);
  static void PassErrors(Isolate& isolate, const FunctionWorker& call);
  bool IsIdle(const Isolate& isolate) const;
  bool IsLost(const Isolate& isolate) const;
  void EndOneLost();
  void NoteFailure();
  bool HasServedItsTime(const Isolate& isolate) const;
  std::int64_t DueNs(const Isolate& isolate, bool above_min) const;
  void LookLater(std::chrono::nanoseconds after);
  void Look();

  Pool& pool_;
  Timers& timers_;
  const FunctionOptions function_;
  std::list<Held> isolates_;
  std::deque<std::shared_ptr<FunctionWorker>> waiting_;  // calls
  int failures_ = 0;                 // isolates in a row that ended before they had served
  std::int64_t start_after_ns_ = 0;  // because of them
  std::optional<Timers::Id> look_;   // what is due by time
  bool closed_ = true;
};

}  // namespace brood
