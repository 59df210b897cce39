// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/warm_pool.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "pool/functions/backoff.h"
#include "pool/functions/lambda_call.h"
#include "pool/functions/lambda_runtime.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// One that has just served a call asks for the next within this time, or is not counted on.
constexpr std::int64_t kComesBackNs = 20'000'000;

}  // namespace

WarmPool::~WarmPool() {
  if (look_) timers_.Cancel(*look_);
  for (const Held& isolate : isolates_) EndIsolate(*isolate);
}

void WarmPool::Open() {
  closed_ = false;
  StartMore();
}

void WarmPool::Close() {
  closed_ = true;
  for (const Held& isolate : isolates_) {
    if (isolate->call == nullptr && waiting_.empty()) EndIsolate(*isolate);
  }
}

bool WarmPool::IsIdle(const Isolate& isolate) const {
  return isolate.call == nullptr && !isolate.leaving && isolate.host->lambda_runtime->asks();
}

bool WarmPool::IsLost(const Isolate& isolate) const {
  return isolate.call == nullptr && !isolate.leaving && isolate.served > 0 && !IsIdle(isolate) &&
         NowNs() - isolate.free_since_ns > kComesBackNs;
}

std::size_t WarmPool::idle() const {
  return static_cast<std::size_t>(std::count_if(
      isolates_.begin(), isolates_.end(), [&](const Held& isolate) { return IsIdle(*isolate); }));
}

absl::StatusOr<WarmPool::Served> WarmPool::Serve() {
  BROOD_ASSIGN_OR_RETURN(auto call, NewFunctionWorker(function_));
  if (fcntl(call->theirs[2].get(), F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError(errno, "preparing a pipe to function {}", function_.name);
  }
  BROOD_ASSIGN_OR_RETURN(call->lambda, NewLambdaCall(pool_, function_, call));
  call->asked_ns = NowNs();
  const std::weak_ptr<WarmPool> weak = weak_from_this();
  const std::weak_ptr<FunctionWorker> weak_call = call;
  call->kill = [weak, weak_call] {
    const auto self = weak.lock();
    const auto held = weak_call.lock();
    if (self && held) self->Kill(held);
    return absl::OkStatus();
  };
  // No isolate waits for a caller that is slow to send.
  call->lambda->on_event = [weak, weak_call] {
    const auto self = weak.lock();
    const auto held = weak_call.lock();
    if (self && held && !held->outcome) self->Admit(held);
  };
  return Served{.worker = std::move(call), .hit = idle() > 0, .missed = isolates_.empty()};
}

// Gives it to the isolate that was busy last: those that are not needed stay idle, and end.
void WarmPool::Admit(const std::shared_ptr<FunctionWorker>& call) {
  Held latest;
  for (const Held& isolate : isolates_) {
    if (!IsIdle(*isolate) || !isolate->host->Alive() || HasServedItsTime(*isolate)) continue;
    if (!latest || isolate->free_since_ns > latest->free_since_ns) latest = isolate;
  }
  if (latest) return Give(latest, call);
  waiting_.push_back(call);
  StartMore();
}

absl::Status WarmPool::Start() {
  auto isolate = std::make_shared<Isolate>(pool_);
  isolate->born_ns = NowNs();
  const std::weak_ptr<WarmPool> weak = weak_from_this();
  BROOD_ASSIGN_OR_RETURN(isolate->host, StartRuntime(pool_, timers_, function_));
  FunctionWorker& host = *isolate->host;
  host.lambda_runtime->on_ask = [weak, isolate] {
    if (const auto self = weak.lock()) self->OnAsk(isolate);
  };
  host.lambda_runtime->on_served = [weak, isolate] {
    if (const auto self = weak.lock()) self->OnServed(isolate);
  };
  host.on_ended = [weak, isolate] {
    isolate->errors_watch.Stop();
    if (const auto self = weak.lock()) self->OnHostEnded(isolate);
  };
  (void)isolate->errors_watch.Start(host.err.get(), POLLIN, [raw = isolate.get()](short) {
    if (!raw->errors.Read(raw->host->err.get())) raw->errors_watch.Stop();
  });
  isolates_.push_back(std::move(isolate));
  LookLater(function_.timeout);
  return absl::OkStatus();
}

// As many as calls wait for, beside those that will ask in a moment, and `min` in all.
void WarmPool::StartMore() {
  const std::int64_t now = NowNs();
  if (now < start_after_ns_) return LookLater(std::chrono::nanoseconds(start_after_ns_ - now));
  std::size_t coming = 0;
  bool back_soon = false;
  std::size_t staying = 0;
  for (const Held& isolate : isolates_) {
    if (isolate->leaving) continue;
    ++staying;
    if (isolate->call != nullptr || IsIdle(*isolate) || IsLost(*isolate)) continue;
    back_soon |= isolate->served > 0;
    ++coming;
  }
  while (coming < waiting_.size() || (!closed_ && staying < function_.min)) {
    if (staying >= function_.concurrency) EndOneLost();
    if (const absl::Status started = Start(); !started.ok()) {
      NoteFailure();
      LookLater(std::chrono::nanoseconds(start_after_ns_ - NowNs()));
      return FailOldest(started, nullptr);
    }
    ++coming;
    ++staying;
  }
  if (back_soon && !waiting_.empty()) LookLater(std::chrono::nanoseconds(kComesBackNs));
}

void WarmPool::NoteFailure() {
  start_after_ns_ = NowNs() + std::chrono::nanoseconds(Backoff(failures_++)).count();
}

// Of those that have not asked again after their last call, the one that has been gone for longest.
void WarmPool::EndOneLost() {
  Held lost;
  for (const Held& isolate : isolates_) {
    if (!IsLost(*isolate)) continue;
    if (!lost || isolate->free_since_ns < lost->free_since_ns) lost = isolate;
  }
  if (lost) EndIsolate(*lost);
}

void WarmPool::Give(const Held& isolate, const std::shared_ptr<FunctionWorker>& call) {
  // What it said before is not this call's.
  isolate->errors.ReadRest(isolate->host->err.get());
  isolate->errors = {};
  isolate->call = call;
  call->path = isolate->host->path;
  call->served_before = isolate->served++;
  call->started_ns = NowNs();
  isolate->host->lambda_runtime->Give(call->lambda);
}

void WarmPool::OnAsk(const Held& isolate) {
  if (!IsIdle(*isolate)) return;
  isolate->asked = true;
  // One of which nobody can tell whether it is alive is of no use.
  const bool last =
      HasServedItsTime(*isolate) || !isolate->host->pidfd.valid() || (closed_ && waiting_.empty());
  if (last) {
    EndIsolate(*isolate);
    return StartMore();
  }
  if (waiting_.empty()) {
    if (isolate->served == 0) isolate->free_since_ns = NowNs();
    return Look();
  }
  const auto call = std::move(waiting_.front());
  waiting_.pop_front();
  Give(isolate, call);
}

void WarmPool::OnServed(const Held& isolate) {
  const auto self = shared_from_this();
  failures_ = 0;
  const bool last = isolate->host->lambda_runtime->failed() || HasServedItsTime(*isolate) ||
                    (closed_ && waiting_.empty());
  if (last) EndIsolate(*isolate);
  if (const auto call = std::exchange(isolate->call, nullptr)) {
    isolate->free_since_ns = NowNs();
    PassErrors(*isolate, *call);
    Outcome outcome;
    outcome.template_name = function_.template_name;
    outcome.spawn_path = call->path;
    outcome.end = End::kExited;
    outcome.wall_us = static_cast<double>(NowNs() - call->asked_ns) / 1000;
    // What is left of its response is still written. A call that has waited for this one's place
    // may be given to the isolate before this returns.
    call->End(std::move(outcome));
  }
  if (isolate->call != nullptr) return;
  if (last) return StartMore();
  if (IsIdle(*isolate)) return OnAsk(isolate);
  Look();
}

bool WarmPool::HasServedItsTime(const Isolate& isolate) const {
  return (function_.max_calls != 0 && isolate.served >= function_.max_calls) ||
         (function_.max_age.count() != 0 && NowNs() - isolate.born_ns >= function_.max_age.count());
}

void WarmPool::EndIsolate(Isolate& isolate) {
  isolate.leaving = true;
  isolate.host->lambda_runtime->EndWorker();
}

void WarmPool::OnHostEnded(const Held& isolate) {
  const auto self = shared_from_this();
  std::erase(isolates_, isolate);
  const absl::StatusOr<Outcome>& outcome = *isolate->host->outcome;
  const bool failed = !isolate->leaving || isolate->host->lambda_runtime->failed();
  if (const auto call = std::exchange(isolate->call, nullptr)) {
    PassErrors(*isolate, *call);
    call->End(outcome);
  } else if (isolate->served == 0 && failed) {
    NoteFailure();
    if (!isolate->asked) FailOldest(outcome, isolate.get());
  }
  StartMore();
}

// Whoever waits longest is told why there is no isolate. `isolate`: the one that could not begin.
void WarmPool::FailOldest(absl::StatusOr<Outcome> outcome, Isolate* isolate) {
  if (waiting_.empty()) return;
  const auto call = std::move(waiting_.front());
  waiting_.pop_front();
  if (isolate != nullptr) {
    PassErrors(*isolate, *call);
    const std::string& error = isolate->host->lambda_runtime->error();
    if (!error.empty()) (void)call->lambda->Fail(error);
  }
  call->End(std::move(outcome));
}

// Not from within: the function that calls this belongs to the call.
void WarmPool::Kill(const std::shared_ptr<FunctionWorker>& call) {
  timers_.Add(std::chrono::nanoseconds(0), [weak = weak_from_this(), call] {
    const auto self = weak.lock();
    if (!self || call->outcome) return;
    for (const Held& isolate : self->isolates_) {
      if (isolate->call != call) continue;
      isolate->leaving = true;
      // Whom the pool does not know has ended, which is heard of: it was given a call, so it ran.
      if (isolate->host->kill) (void)isolate->host->kill();
      return;
    }
    // No isolate has it.
    std::erase(self->waiting_, call);
    Outcome outcome;
    outcome.end = End::kKilled;
    call->End(std::move(outcome));
  });
}

// The last of what it has said during the call.
void WarmPool::PassErrors(Isolate& isolate, const FunctionWorker& call) {
  isolate.errors.ReadRest(isolate.host->err.get());
  const std::string& said = isolate.errors.text();
  if (!said.empty()) (void)!write(call.theirs[2].get(), said.data(), said.size());
}

void WarmPool::LookLater(std::chrono::nanoseconds after) {
  const std::int64_t at = NowNs() + after.count();
  if (look_ && look_->first <= at) return;
  if (look_) timers_.Cancel(*look_);
  look_ = timers_.Add(after, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->look_.reset();
    self->Look();
    self->StartMore();
  });
}

// Until when an isolate without a call may be as it is. One that has not asked, for the first time
// or again, has as long as a call.
std::int64_t WarmPool::DueNs(const Isolate& isolate, bool above_min) const {
  std::int64_t due = INT64_MAX;
  if (!IsIdle(isolate)) {
    due =
        (isolate.served > 0 ? isolate.free_since_ns : isolate.born_ns) + function_.timeout.count();
  } else if (above_min) {
    due = isolate.free_since_ns + function_.idle.count();
  }
  if (function_.max_age.count() != 0 && IsIdle(isolate)) {
    due = std::min<std::int64_t>(due, isolate.born_ns + function_.max_age.count());
  }
  return due;
}

// Ends those whose time is over, and looks again when another's will be.
void WarmPool::Look() {
  const std::int64_t now = NowNs();
  auto staying = static_cast<std::size_t>(std::count_if(
      isolates_.begin(), isolates_.end(), [](const Held& isolate) { return !isolate->leaving; }));
  std::int64_t next = INT64_MAX;
  for (const Held& isolate : isolates_) {
    if (isolate->leaving || isolate->call != nullptr) continue;
    const std::int64_t due = DueNs(*isolate, staying > function_.min);
    if (due > now) {
      next = std::min(next, due);
      continue;
    }
    --staying;
    if (isolate->served == 0 && !isolate->asked) NoteFailure();  // it hangs at its beginning
    EndIsolate(*isolate);
  }
  if (next != INT64_MAX) LookLater(std::chrono::nanoseconds(next - now));
}

}  // namespace brood
