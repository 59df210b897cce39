// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/warm_pool.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include "pool/functions/lambda_call.h"
#include "pool/functions/lambda_runtime.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// One that has just served a call asks for the next within this time, or is not counted on.
constexpr std::int64_t kComesBackNs = 20'000'000;

std::int64_t BackoffNs(int failures) {
  return failures == 0 ? 0 : std::int64_t{10'000'000} << std::min(failures - 1, 9);
}

}  // namespace

WarmPool::~WarmPool() {
  if (look_) timers_.Cancel(*look_);
  for (const Held& isolate : isolates_) EndIsolate(*isolate);
}

void WarmPool::Open() {
  closed_ = false;
  (void)StartMore();
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
  BROOD_ASSIGN_OR_RETURN(call->lambda, NewLambdaCall(pool_, call));
  call->asked_ns = NowNs();
  call->kill = [weak = weak_from_this(), weak_call = std::weak_ptr(call)] {
    const auto self = weak.lock();
    const auto held = weak_call.lock();
    if (self && held) self->Kill(held);
    return absl::OkStatus();
  };
  // The one that was busy last: those that are not needed stay idle, and end.
  const Held* latest = nullptr;
  for (const Held& isolate : isolates_) {
    if (!IsIdle(*isolate) || !isolate->host->Alive()) continue;
    if (latest == nullptr || isolate->free_since_ns > (*latest)->free_since_ns) latest = &isolate;
  }
  if (latest != nullptr) {
    const Held isolate = *latest;
    Give(isolate, call);
    return Served{.worker = std::move(call), .hit = true};
  }
  waiting_.push_back(call);
  const bool missed = StartMore();
  return Served{.worker = std::move(call), .missed = missed};
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
    if (const auto self = weak.lock()) self->OnHostEnded(isolate);
    isolate->errors_watch.Stop();
  };
  (void)isolate->errors_watch.Start(host.err.get(), POLLIN,
                                    [raw = isolate.get()](short) { PassErrors(*raw); });
  isolates_.push_back(std::move(isolate));
  return absl::OkStatus();
}

// As many as calls wait for, beside those that will ask in a moment, and `min` in all.
bool WarmPool::StartMore() {
  const std::int64_t now = NowNs();
  if (now < start_after_ns_) {
    LookLater(std::chrono::nanoseconds(start_after_ns_ - now));
    return true;
  }
  std::size_t coming = 0;
  bool back_soon = false;
  std::size_t staying = 0;
  for (const Held& isolate : isolates_) {
    if (isolate->leaving) continue;
    ++staying;
    if (isolate->call != nullptr || IsIdle(*isolate)) continue;
    const bool back = isolate->served > 0;
    if (back && now - isolate->free_since_ns > kComesBackNs) continue;
    back_soon |= back;
    ++coming;
  }
  const bool more = coming < waiting_.size();
  while (coming < waiting_.size() || (!closed_ && staying < function_.min)) {
    if (staying >= function_.concurrency) EndOneLost();
    if (const absl::Status started = Start(); !started.ok()) {
      start_after_ns_ = NowNs() + BackoffNs(++failures_);
      FailOldest(started, nullptr);
      LookLater(std::chrono::nanoseconds(BackoffNs(failures_)));
      return true;
    }
    ++coming;
    ++staying;
  }
  if (back_soon && !waiting_.empty()) LookLater(std::chrono::nanoseconds(kComesBackNs));
  return more;
}

// Of those that have not asked again after their last call, the one that has been gone for longest.
void WarmPool::EndOneLost() {
  const Held* lost = nullptr;
  for (const Held& isolate : isolates_) {
    if (!IsLost(*isolate)) continue;
    if (lost == nullptr || isolate->free_since_ns < (*lost)->free_since_ns) lost = &isolate;
  }
  if (lost != nullptr) EndIsolate(**lost);
}

void WarmPool::Give(const Held& isolate, const std::shared_ptr<FunctionWorker>& call) {
  isolate->call = call;
  call->path = isolate->host->path;
  call->served_before = isolate->served++;
  call->started_ns = NowNs();
  // Its response may still be on its way to the caller when the isolate serves the next one.
  call->lambda->on_over = [weak = weak_from_this(), isolate, weak_call = std::weak_ptr(call)] {
    const auto self = weak.lock();
    const auto held = weak_call.lock();
    if (self && held) self->OnOver(isolate, held);
  };
  isolate->host->lambda_runtime->Give(call->lambda);
}

void WarmPool::OnAsk(const Held& isolate) {
  failures_ = 0;
  if (!IsIdle(*isolate)) return;
  if (waiting_.empty()) {
    if (closed_) return EndIsolate(*isolate);
    if (isolate->served == 0) isolate->free_since_ns = NowNs();
    return LookLater(function_.idle);
  }
  const auto call = std::move(waiting_.front());
  waiting_.pop_front();
  Give(isolate, call);
}

void WarmPool::OnOver(const Held& isolate, const std::shared_ptr<FunctionWorker>& call) {
  if (isolate->call == call) {
    PassErrors(*isolate);
    isolate->call = nullptr;
    isolate->free_since_ns = NowNs();
  }
  Outcome outcome;
  outcome.template_name = function_.template_name;
  outcome.spawn_path = call->path;
  outcome.end = End::kExited;
  outcome.wall_us = static_cast<double>(NowNs() - call->asked_ns) / 1000;
  call->End(std::move(outcome));
}

// What it says from now on is not this call's.
void WarmPool::OnServed(const Held& isolate) {
  if (isolate->call != nullptr) {
    PassErrors(*isolate);
    isolate->call = nullptr;
    isolate->free_since_ns = NowNs();
  }
  const bool last = isolate->host->lambda_runtime->failed() || HasServedItsTime(*isolate) ||
                    (closed_ && waiting_.empty());
  if (last) {
    EndIsolate(*isolate);
    (void)StartMore();
    return;
  }
  if (IsIdle(*isolate)) return OnAsk(isolate);
  LookLater(function_.timeout);
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
  PassErrors(*isolate);
  std::erase(isolates_, isolate);
  const absl::StatusOr<Outcome>& outcome = *isolate->host->outcome;
  if (const auto call = std::exchange(isolate->call, nullptr)) {
    call->End(outcome);
  } else if (isolate->served == 0 &&
             (!isolate->leaving || isolate->host->lambda_runtime->failed())) {
    start_after_ns_ = NowNs() + BackoffNs(++failures_);
    FailOldest(outcome, isolate.get());
  }
  (void)StartMore();
}

// Whoever waits longest is told why there is no isolate. `isolate`: the one that could not begin.
void WarmPool::FailOldest(absl::StatusOr<Outcome> outcome, const Isolate* isolate) {
  if (waiting_.empty()) return;
  const auto call = std::move(waiting_.front());
  waiting_.pop_front();
  if (isolate != nullptr) {
    const std::string& said = isolate->errors.text();
    (void)!write(call->theirs[2].get(), said.data(), said.size());
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
    if (std::erase(self->waiting_, call) > 0) {
      Outcome outcome;
      outcome.end = End::kKilled;
      return call->End(std::move(outcome));
    }
    for (const Held& isolate : self->isolates_) {
      if (isolate->call != call) continue;
      isolate->leaving = true;
      if (isolate->host->kill && !isolate->host->kill().ok()) self->Kill(call);
      return;
    }
    // Its response is on its way, and nobody takes it.
    Outcome outcome;
    outcome.end = End::kKilled;
    call->End(std::move(outcome));
  });
}

void WarmPool::PassErrors(Isolate& isolate) {
  const int from = isolate.host->err.get();
  if (isolate.call == nullptr) {
    if (!isolate.errors.Read(from)) isolate.errors_watch.Stop();
    return;
  }
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t got = read(from, buffer.data(), buffer.size());
    if (got == 0) isolate.errors_watch.Stop();
    if (got <= 0) return;
    // Only its end is kept: what finds no room there is lost.
    (void)!write(isolate.call->theirs[2].get(), buffer.data(), static_cast<std::size_t>(got));
  }
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
  });
}

// Ends what has been idle for too long, down to `min`, what is too old, and what has taken longer
// since its last call than a call may.
void WarmPool::Look() {
  const std::int64_t now = NowNs();
  std::size_t staying = static_cast<std::size_t>(std::count_if(
      isolates_.begin(), isolates_.end(), [](const Held& isolate) { return !isolate->leaving; }));
  std::int64_t next = INT64_MAX;
  for (const Held& isolate : isolates_) {
    if (IsLost(*isolate)) {
      const std::int64_t late = isolate->free_since_ns + function_.timeout.count();
      if (late <= now) {
        --staying;
        EndIsolate(*isolate);
      } else {
        next = std::min(next, late);
      }
    }
    if (!IsIdle(*isolate)) continue;
    const std::int64_t tired = isolate->free_since_ns + function_.idle.count();
    if (HasServedItsTime(*isolate) || (tired <= now && staying > function_.min)) {
      --staying;
      EndIsolate(*isolate);
    } else if (tired > now) {
      next = std::min(next, tired);
    }
    if (function_.max_age.count() != 0) {
      next = std::min(next, isolate->born_ns + function_.max_age.count());
    }
  }
  (void)StartMore();
  if (next != INT64_MAX) {
    LookLater(std::chrono::nanoseconds(std::max<std::int64_t>(next - now, 1'000'000)));
  }
}

}  // namespace brood
