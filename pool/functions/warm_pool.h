// SPDX-License-Identifier: Apache-2.0

// The isolates of a warm function: each serves many calls.
//
//   Serve -> (an isolate has room) -> WarmCall::OnGiven -> ... -> Done, or the runtime's on_over
//
// A call waits for whichever isolate has room first, and no later call overtakes it.
#pragma once

#include <cstddef>
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
#include "pool/core/watched.h"
#include "pool/functions/error_tail.h"
#include "pool/functions/function.h"
#include "pool/functions/function_worker.h"
#include "pool/pool.h"

namespace brood {

// A call, as the pool of isolates knows it.
class WarmCall {
 public:
  virtual ~WarmCall() = default;

  // It has an isolate, which has been given `served_before` calls before, and whose runtime has
  // room for it.
  virtual void OnGiven(const FunctionWorker& host, std::uint64_t served_before) = 0;
  // The isolate's runtime says that it is over. `said`: the last of the isolate's stderr.
  virtual void OnOver(std::string_view said) = 0;
  // Its isolate has ended, or none can be started for it. `error`: Runtime::error.
  virtual void OnLost(absl::StatusOr<Outcome> outcome, std::string_view said,
                      const std::string& error) = 0;
};

// Only in the pool's thread. Held by the function's pool; what outlives it has weak references.
class WarmPool : public std::enable_shared_from_this<WarmPool> {
 public:
  using Call = std::shared_ptr<WarmCall>;

  WarmPool(Pool& pool, Timers& timers, const FunctionOptions& function)
      : pool_(pool), timers_(timers), function_(function) {}
  ~WarmPool();

  // Whether calls that it does not know yet are certain to come; null: they are not.
  std::function<bool()> more_to_come;
  // Hears what isolates write to stderr that is of no call, or of one of several; and of those that
  // end by themselves without having a call. May be null.
  std::function<void(std::string_view text)> on_said;
  std::function<void(std::string_view why, std::string_view said)> on_failed;
  // Hears how each has ended; may be null.
  std::function<void(const Outcome& outcome)> on_outcome;

  // Starts `min` isolates, and goes on keeping so many.
  void Open();
  // Ends those that have no calls, and each other one after its calls.
  void Close();

  // Gives it an isolate, at once or later.
  void Serve(const Call& call);
  // It is over, or has been given up; one that waits is forgotten. `fit`: the isolate may be given
  // another. Returns the last of what that has written to its stderr.
  std::string Done(const Call& call, bool fit);
  // Kills its isolate, whose end it hears of. False: it has none.
  bool Kill(const Call& call);

  std::size_t idle() const;  // isolates that have room and no call
  std::size_t size() const { return isolates_.size(); }

  Pool& pool() { return pool_; }
  Timers& timers() { return timers_; }
  const FunctionOptions& function() const { return function_; }

 private:
  struct Isolate {
    explicit Isolate(Pool& pool) : errors_watch(pool) {}
    std::shared_ptr<FunctionWorker> host;  // the pool's worker
    std::vector<Call> calls;               // under way
    std::uint64_t served = 0;              // calls that it has been given
    std::int64_t born_ns = 0;
    std::int64_t free_since_ns = 0;  // it has had no call
    bool had_room = false;           // ever
    bool leaving = false;            // it has been ended, or will be after its calls
    Watched errors_watch;
    ErrorTail errors;  // what it has said since it had no call
  };
  using Held = std::shared_ptr<Isolate>;

  absl::Status Start();
  void StartMore();
  void Give(const Held& isolate, const Call& call);
  void GiveWaiting(const Held& isolate);
  void OnRoom(const Held& isolate);
  void OnOver(const Held& isolate);
  void OnHostEnded(const Held& isolate);
  void GoOn(const Held& isolate);
  Held HolderOf(const Call& call) const;
  bool Leaves(const Isolate& isolate) const;
  void EndIsolate(Isolate& isolate);
  void FailOldest(absl::StatusOr<Outcome> outcome, Isolate* isolate);
  static const std::string& ReadErrors(Isolate& isolate);
  bool HasRoom(const Isolate& isolate) const;
  bool IsLost(const Isolate& isolate) const;
  void EndOneLost();
  void NoteFailure();
  bool HasServedItsTime(const Isolate& isolate) const;
  std::size_t capacity() const;
  std::int64_t DueNs(const Isolate& isolate, bool above_min) const;
  void LookLater(std::chrono::nanoseconds after);
  void Look();

  Pool& pool_;
  Timers& timers_;
  const FunctionOptions function_;
  std::list<Held> isolates_;
  std::deque<Call> waiting_;
  int failures_ = 0;                 // isolates in a row that ended before they had served
  std::int64_t start_after_ns_ = 0;  // because of them
  std::optional<Timers::Id> look_;   // what is due by time
  bool closed_ = true;
};

}  // namespace brood
