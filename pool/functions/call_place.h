// SPDX-License-Identifier: Apache-2.0

// A call's place among those of its function: it waits for it, has it, and gives it up.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "pool/core/timers.h"
#include "pool/functions/function_pool.h"
#include "spawn/base/status.h"

namespace brood {

// Only in the pool's thread. Left once, by who has entered.
class CallPlace {
 public:
  CallPlace(Timers& timers, FunctionPool& function) : timers_(timers), function_(function) {}

  // `go` is called when the call may run, at once or later; `expired` instead, once it has waited
  // for as long as the function says. kResourceExhausted when the queue is full.
  absl::Status Enter(std::function<void()> go, std::function<void()> expired) {
    BROOD_ASSIGN_OR_RETURN(place_, function_.Enter([this, go = std::move(go)] {
      begun_ = true;
      StopWaiting();
      go();
    }));
    // It may be over already.
    if (left_) {
      Leave();
    } else if (!begun_) {
      timer_ = timers_.Add(function_.options().queue_timeout, [this, expired = std::move(expired)] {
        timer_.reset();
        expired();
      });
    }
    return absl::OkStatus();
  }

  // Nothing to do when it has been left.
  void Leave() {
    left_ = true;
    StopWaiting();
    if (const auto place = std::exchange(place_, nullptr)) function_.Leave(place);
  }

  bool waits() const { return !begun_ && !left_; }

 private:
  void StopWaiting() {
    if (timer_) timers_.Cancel(*timer_);
    timer_.reset();
  }

  Timers& timers_;
  FunctionPool& function_;
  FunctionPool::Place place_;
  std::optional<Timers::Id> timer_;
  bool begun_ = false;
  bool left_ = false;
};

}  // namespace brood
