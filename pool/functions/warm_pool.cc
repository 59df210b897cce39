// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/warm_pool.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "pool/functions/backoff.h"
#include "pool/functions/call_end.h"
#include "pool/functions/runtime.h"
#include "spawn/base/clock.h"

namespace brood {
namespace {

// One that has just served a call has room for the next within this time, or is not counted on.
constexpr std::int64_t kComesBackNs = 20'000'000;

}  // namespace

WarmPool::~WarmPool() {
  if (look_) timers_.Cancel(*look_);
  for (const Held& isolate : isolates_) {
    isolate->errors.tap = nullptr;
    EndIsolate(*isolate);
  }
}

void WarmPool::Open() {
  closed_ = false;
  StartMore();
}

void WarmPool::Close() {
  closed_ = true;
  for (const Held& isolate : isolates_) {
    if (isolate->calls.empty() && waiting_.empty()) EndIsolate(*isolate);
  }
}

std::size_t WarmPool::capacity() const {
  return function_.runtime == FunctionRuntime::kHttp ? function_.max_inflight : 1;
}

bool WarmPool::HasRoom(const Isolate& isolate) const {
  return !isolate.leaving && isolate.calls.size() < capacity() && isolate.host->runtime->room() > 0;
}

bool WarmPool::IsLost(const Isolate& isolate) const {
  return isolate.calls.empty() && !isolate.leaving && isolate.served > 0 && !HasRoom(isolate) &&
         NowNs() - isolate.free_since_ns > kComesBackNs;
}

std::size_t WarmPool::idle() const {
  return static_cast<std::size_t>(std::count_if(
      isolates_.begin(), isolates_.end(),
      [&](const Held& isolate) { return isolate->calls.empty() && HasRoom(*isolate); }));
}

// The one that has the fewest calls. Of those that have none, the one that was busy last: those
// that are not needed stay idle, and end.
void WarmPool::Serve(const Call& call) {
  const auto self = shared_from_this();
  Held best;
  for (const Held& isolate : isolates_) {
    if (!HasRoom(*isolate) || HasServedItsTime(*isolate)) continue;
    if (best && isolate->calls.size() > best->calls.size()) continue;
    if (best && isolate->calls.size() == best->calls.size() &&
        isolate->free_since_ns <= best->free_since_ns) {
      continue;
    }
    if (isolate->host->Alive()) best = isolate;
  }
  waiting_.push_back(call);
  if (best) GiveWaiting(best);
  if (!waiting_.empty()) StartMore();
}

absl::Status WarmPool::Start() {
  auto isolate = std::make_shared<Isolate>(pool_);
  isolate->born_ns = NowNs();
  const std::weak_ptr<WarmPool> weak = weak_from_this();
  BROOD_ASSIGN_OR_RETURN(isolate->host, StartRuntime(pool_, timers_, function_));
  FunctionWorker& host = *isolate->host;
  host.runtime->on_room = [weak, isolate] {
    if (const auto self = weak.lock()) self->OnRoom(isolate);
  };
  host.runtime->on_over = [weak, isolate] {
    if (const auto self = weak.lock()) self->OnOver(isolate);
  };
  host.on_ended = [weak, isolate] {
    isolate->errors_watch.Stop();
    if (const auto self = weak.lock()) self->OnHostEnded(isolate);
  };
  isolate->errors.tap = [this, raw = isolate.get()](std::string_view text) {
    if (on_said && (capacity() > 1 || raw->calls.empty())) on_said(text);
  };
  (void)isolate->errors_watch.Start(host.err.get(), POLLIN, [raw = isolate.get()](short) {
    if (!raw->errors.Read(raw->host->err.get())) raw->errors_watch.Stop();
  });
  isolates_.push_back(std::move(isolate));
  LookLater(function_.timeout);
  return absl::OkStatus();
}

// As many as calls wait for, beside those that will have room in a moment, and `min` in all.
void WarmPool::StartMore() {
  const std::int64_t now = NowNs();
  if (now < start_after_ns_) return LookLater(std::chrono::nanoseconds(start_after_ns_ - now));
  std::size_t coming = 0;
  bool back_soon = false;
  std::size_t staying = 0;
  for (const Held& isolate : isolates_) {
    if (isolate->leaving) continue;
    ++staying;
    if (!isolate->calls.empty() || HasRoom(*isolate) || IsLost(*isolate)) continue;
    back_soon |= isolate->served > 0;
    ++coming;
  }
  while (coming * capacity() < waiting_.size() || (!closed_ && staying < function_.min)) {
    if (staying * capacity() >= function_.concurrency) EndOneLost();
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

// Of those that have not had room again after their last call, the one gone for longest.
void WarmPool::EndOneLost() {
  Held lost;
  for (const Held& isolate : isolates_) {
    if (!IsLost(*isolate)) continue;
    if (!lost || isolate->free_since_ns < lost->free_since_ns) lost = isolate;
  }
  if (lost) EndIsolate(*lost);
}

void WarmPool::Give(const Held& isolate, const Call& call) {
  // What it said before is not this call's.
  if (isolate->calls.empty()) {
    ReadErrors(*isolate);
    isolate->errors.Clear();
  }
  isolate->calls.push_back(call);
  call->OnGiven(*isolate->host, isolate->served++);
}

// As many of those that wait as it has room for.
void WarmPool::GiveWaiting(const Held& isolate) {
  while (!waiting_.empty() && HasRoom(*isolate) && !HasServedItsTime(*isolate)) {
    const Call call = std::move(waiting_.front());
    waiting_.pop_front();
    Give(isolate, call);
  }
}

bool WarmPool::Leaves(const Isolate& isolate) const {
  return isolate.leaving || isolate.host->runtime->failed() || HasServedItsTime(isolate) ||
         (closed_ && waiting_.empty() && !(more_to_come && more_to_come()));
}

void WarmPool::OnRoom(const Held& isolate) {
  const auto self = shared_from_this();
  if (!HasRoom(*isolate)) return;
  isolate->had_room = true;
  if (isolate->served == 0) isolate->free_since_ns = NowNs();
  GoOn(isolate);
}

// It has no call less than before, or room: gives it what waits, or ends it.
void WarmPool::GoOn(const Held& isolate) {
  // One of which nobody can tell whether it is alive is of no use.
  const bool unknown = isolate->had_room && !isolate->host->pidfd.valid();
  if (Leaves(*isolate) || unknown) {
    isolate->leaving = true;
    if (isolate->calls.empty()) EndIsolate(*isolate);
    return StartMore();
  }
  GiveWaiting(isolate);
  Look();
}

WarmPool::Held WarmPool::HolderOf(const Call& call) const {
  for (const Held& isolate : isolates_) {
    if (std::find(isolate->calls.begin(), isolate->calls.end(), call) != isolate->calls.end()) {
      return isolate;
    }
  }
  return nullptr;
}

std::string WarmPool::Done(const Call& call, bool fit) {
  const auto self = shared_from_this();
  const Held isolate = HolderOf(call);
  if (!isolate) {
    std::erase(waiting_, call);
    return "";
  }
  std::string said = ReadErrors(*isolate);
  std::erase(isolate->calls, call);
  isolate->free_since_ns = NowNs();
  if (fit) {
    failures_ = 0;
  } else {
    isolate->leaving = true;
  }
  GoOn(isolate);
  return said;
}

void WarmPool::OnOver(const Held& isolate) {
  const auto self = shared_from_this();
  if (isolate->calls.empty()) return GoOn(isolate);  // it has failed between two
  const Call call = isolate->calls.front();
  call->OnOver(Done(call, !isolate->host->runtime->failed()));
}

bool WarmPool::HasServedItsTime(const Isolate& isolate) const {
  return (function_.max_calls != 0 && isolate.served >= function_.max_calls) ||
         (function_.max_age.count() != 0 && NowNs() - isolate.born_ns >= function_.max_age.count());
}

void WarmPool::EndIsolate(Isolate& isolate) {
  isolate.leaving = true;
  EndWorker(pool_, timers_, isolate.host);
}

void WarmPool::OnHostEnded(const Held& isolate) {
  const auto self = shared_from_this();
  std::erase(isolates_, isolate);
  const absl::StatusOr<Outcome>& outcome = *isolate->host->outcome;
  const Runtime& runtime = *isolate->host->runtime;
  const bool failed = !isolate->leaving || runtime.failed();
  const std::vector<Call> calls = std::exchange(isolate->calls, {});
  if (calls.empty() && isolate->served == 0 && failed) {
    NoteFailure();
    if (!isolate->had_room) FailOldest(outcome, isolate.get());
  }
  const std::string said = ReadErrors(*isolate);
  if (outcome.ok() && on_outcome) on_outcome(*outcome);
  if (calls.empty() && failed && on_failed) {
    const CallEnd end = EndOfIsolate(outcome);
    std::string why = end.good() ? "an isolate has ended by itself" : end.why;
    for (const std::string& more : {end.message, runtime.error()}) {
      if (!more.empty()) why += ": " + more;
    }
    on_failed(why, said);
  }
  for (const Call& call : calls) call->OnLost(outcome, said, runtime.error());
  StartMore();
}

// Whoever waits longest is told why there is no isolate. `isolate`: the one that could not begin.
void WarmPool::FailOldest(absl::StatusOr<Outcome> outcome, Isolate* isolate) {
  if (waiting_.empty()) return;
  const Call call = std::move(waiting_.front());
  waiting_.pop_front();
  if (isolate == nullptr) return call->OnLost(std::move(outcome), "", "");
  call->OnLost(std::move(outcome), ReadErrors(*isolate), isolate->host->runtime->error());
}

bool WarmPool::Kill(const Call& call) {
  const Held isolate = HolderOf(call);
  if (!isolate) return false;
  isolate->leaving = true;
  // Whom the pool does not know has ended, which is heard of: it was given a call, so it ran.
  if (isolate->host->kill) (void)isolate->host->kill();
  return true;
}

// The last of what it has said since it had no call.
const std::string& WarmPool::ReadErrors(Isolate& isolate) {
  isolate.errors.ReadRest(isolate.host->err.get());
  return isolate.errors.text();
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

// Until when an isolate without a call may be as it is. One that has no room, for the first time or
// again, has as long as a call.
std::int64_t WarmPool::DueNs(const Isolate& isolate, bool above_min) const {
  std::int64_t due = INT64_MAX;
  if (!HasRoom(isolate)) {
    due =
        (isolate.served > 0 ? isolate.free_since_ns : isolate.born_ns) + function_.timeout.count();
  } else if (above_min) {
    due = isolate.free_since_ns + function_.idle.count();
  }
  if (function_.max_age.count() != 0 && HasRoom(isolate)) {
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
    if (isolate->leaving || !isolate->calls.empty()) continue;
    const std::int64_t due = DueNs(*isolate, staying > function_.min);
    if (due > now) {
      next = std::min(next, due);
      continue;
    }
    --staying;
    if (isolate->served == 0 && !isolate->had_room) NoteFailure();  // it hangs at its beginning
    EndIsolate(*isolate);
  }
  if (next != INT64_MAX) LookLater(std::chrono::nanoseconds(next - now));
}

}  // namespace brood
