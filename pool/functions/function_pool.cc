// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/function_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "pool/functions/backoff.h"
#include "pool/functions/call_end.h"
#include "pool/functions/error_tail.h"
#include "pool/functions/warm_lambda_call.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::chrono::milliseconds kSoon{1};  // not in the way of the call that has just come
constexpr std::chrono::milliseconds kQuiet{20};
constexpr std::size_t kTold = 500;  // bytes of its stderr that a problem tells

}  // namespace

FunctionPool::~FunctionPool() {
  if (warm_) {
    warm_->on_said = nullptr;
    warm_->on_failed = nullptr;
  }
  if (gone_) gone_();
}

void FunctionPool::Open() {
  closed_ = false;
  if (options_.mode == FunctionMode::kForked) StartProcess();
  if (options_.mode == FunctionMode::kWarm) {
    warm_ = std::make_shared<WarmPool>(pool_, timers_, options_);
    warm_->more_to_come = [weak = weak_from_this()] {
      const auto self = weak.lock();
      return self && !self->queue_.empty();
    };
    warm_->on_said = [this](std::string_view text) {
      if (log_) log_("", text);
    };
    warm_->on_failed = [this](std::string_view why, std::string_view said) {
      NoteProblem(why, said);
    };
    warm_->on_outcome = [metrics = metrics_](const Outcome& outcome) {
      metrics->AddUsage(outcome);
    };
    warm_->Open();
  }
  Prime();
}

void FunctionPool::StartProcess() {
  if (closed_ || forks_) return;
  const auto weak = weak_from_this();
  ForkServer::Events events;
  events.ready = [weak] {
    const auto self = weak.lock();
    if (!self) return;
    self->process_failures_ = 0;
    self->problem_.clear();
    self->Prime();
  };
  events.ended = [weak](std::string_view why, std::string_view err) {
    if (const auto self = weak.lock()) self->OnProcessEnded(why, err);
  };
  auto started = ForkServer::Start(pool_, timers_, options_, std::move(events));
  if (!started.ok()) return OnProcessEnded(Message(started.status()), "");
  forks_ = *std::move(started);
}

void FunctionPool::OnProcessEnded(std::string_view why, std::string_view err) {
  forks_.reset();
  NoteProblem(why, err);
  if (closed_) return;
  timers_.Add(Backoff(process_failures_++), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->StartProcess();
  });
}

void FunctionPool::NoteProblem(std::string_view why, std::string_view err) {
  problem_ = std::string(why);
  const std::string_view last = err.substr(err.size() - std::min(err.size(), kTold));
  if (!last.empty()) problem_ += fmt::format("; it said: {}", last);
  if (log_) log_(why, err);
}

bool FunctionPool::ready() const {
  if (options_.mode == FunctionMode::kCold || options_.mode == FunctionMode::kParked) return true;
  if (options_.mode == FunctionMode::kForked) return process_ready();
  return options_.min == 0 || primed() > 0;
}

void FunctionPool::Close() {
  closed_ = true;
  for (const auto& worker : std::exchange(primed_, {})) {
    worker->on_ended = nullptr;
    if (worker->kill) (void)worker->kill();
  }
  if (const auto forks = std::exchange(forks_, nullptr)) forks->Retire();
  if (warm_) warm_->Close();
}

void FunctionPool::Retire(std::function<void()> gone) {
  gone_ = std::move(gone);
  Close();
}

std::size_t FunctionPool::primed() const {
  if (warm_) return warm_->idle();
  return static_cast<std::size_t>(std::count_if(
      primed_.begin(), primed_.end(), [](const auto& worker) { return worker->ready(); }));
}

void FunctionPool::Prime() {
  const bool forked = options_.mode == FunctionMode::kForked;
  if (!forked && options_.mode != FunctionMode::kPrimed) return;
  while (!closed_ && !waiting_ && primed_.size() < options_.min) {
    if (forked && !process_ready()) return;  // it says when it is
    auto worker =
        forked ? forks_->Fork() : StartFunction(pool_, timers_, options_, SpawnPath::kParked, {});
    if (!worker.ok()) return OnPrimedEnd(nullptr);
    (*worker)->on_ended = [this, raw = worker->get()] { OnPrimedEnd(raw); };
    primed_.push_back(*std::move(worker));
  }
}

void FunctionPool::NoteLost(const FunctionWorker& worker) {
  const CallEnd end = EndOfIsolate(*worker.outcome);
  std::string why = "a primed worker has ended before its call";
  if (!end.good()) why += ": " + (end.message.empty() ? end.why : end.message);
  ErrorTail said;
  said.ReadRest(worker.err.get());
  NoteProblem(why, said.text());
}

// One that ended before its call: another takes its place.
void FunctionPool::OnPrimedEnd(const FunctionWorker* worker) {
  if (worker != nullptr) {
    if (worker->outcome) NoteLost(*worker);
    std::erase_if(primed_, [&](const auto& each) { return each.get() == worker; });
    ++metrics_->primed_lost;
  }
  if (closed_ || waiting_) return;
  PrimeAfter(Backoff(failures_++));
}

void FunctionPool::PrimeAfter(std::chrono::nanoseconds delay) {
  waiting_ = timers_.Add(delay, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->waiting_.reset();
    const std::chrono::nanoseconds quiet(NowNs() - self->taken_ns_);
    if (self->plenty() && quiet < kQuiet) return self->PrimeAfter(kQuiet - quiet);
    self->Prime();
  });
}

// Starting one slows the calls beside it: done when none has come for a while, or half are gone.
void FunctionPool::PrimeInTime() {
  taken_ns_ = NowNs();
  if (plenty()) {
    if (!waiting_) PrimeAfter(kQuiet);
    return;
  }
  if (waiting_) timers_.Cancel(*waiting_);
  PrimeAfter(kSoon);
}

absl::StatusOr<FunctionPool::Place> FunctionPool::Enter(std::function<void()> go) {
  auto place = std::make_shared<Waiting>(Waiting{std::move(go)});
  if (running_ < options_.concurrency) {
    ++running_;
    std::exchange(place->go, nullptr)();
    return place;
  }
  if (queue_.size() >= options_.queue) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "{} calls of {} run and {} wait: there is no room for more", running_,
                 options_.name, queue_.size());
  }
  queue_.push_back(place);
  return place;
}

void FunctionPool::Leave(const Place& place) {
  if (place->go) {
    std::erase(queue_, place);
    return;
  }
  --running_;
  if (queue_.empty()) return;
  const Place next = queue_.front();
  queue_.pop_front();
  ++running_;
  std::exchange(next->go, nullptr)();
}

absl::StatusOr<FunctionPool::Taken> FunctionPool::Take(
    const std::vector<std::string>& environment) {
  if (warm_) {
    const bool hit = warm_->idle() > 0;
    if (warm_->size() == 0) ++metrics_->misses["none"];
    BROOD_ASSIGN_OR_RETURN(auto worker, ServeLambda(warm_));
    return Taken{std::move(worker), hit};
  }
  const bool forked = options_.mode == FunctionMode::kForked;
  if (options_.mode == FunctionMode::kPrimed || (forked && options_.min > 0)) {
    auto alive = std::find_if(primed_.begin(), primed_.end(), [](const auto& worker) {
      return worker->ready() && worker->Alive();
    });
    const bool hit = alive != primed_.end();
    if (!hit) {
      ++metrics_->misses[primed_.empty() ? "none" : "not-ready"];
      // One that has not asked for its call yet will do so sooner than a new one.
      alive = std::find_if(primed_.begin(), primed_.end(),
                           [](const auto& worker) { return worker->Alive(); });
    }
    // Those that have ended go when the pool tells so; until then nobody is given one.
    if (alive != primed_.end()) {
      std::shared_ptr<FunctionWorker> found = *alive;
      primed_.erase(alive);
      found->on_ended = nullptr;
      if (hit) failures_ = 0;
      PrimeInTime();
      return Taken{std::move(found), hit};
    }
  }
  if (process_ready()) {
    BROOD_ASSIGN_OR_RETURN(auto worker, forks_->Fork());
    return Taken{std::move(worker), false};
  }
  if (forked) ++metrics_->misses[forks_ ? "loading" : "no-process"];
  const bool cold = forked || options_.mode == FunctionMode::kCold;
  BROOD_ASSIGN_OR_RETURN(auto worker,
                         StartFunction(pool_, timers_, options_,
                                       cold ? SpawnPath::kCold : SpawnPath::kParked, environment));
  return Taken{std::move(worker), false};
}

}  // namespace brood
