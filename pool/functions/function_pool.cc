#include "pool/functions/function_pool.h"

#include <algorithm>
#include <chrono>

#include "spawn/reap.h"
#include "spawn/status.h"

namespace brood {
namespace {

constexpr std::chrono::milliseconds kSoon{1};  // not in the way of the call that has just come
constexpr std::chrono::milliseconds kQuiet{20};

}  // namespace

FunctionPool::~FunctionPool() {
  if (gone_) gone_();
}

void FunctionPool::Open() {
  closed_ = false;
  Prime();
}

void FunctionPool::Close() {
  closed_ = true;
  for (const auto& worker : std::exchange(primed_, {})) {
    worker->on_ended = nullptr;
    (void)pool_.Kill(worker->request);
  }
}

void FunctionPool::Retire(std::function<void()> gone) {
  gone_ = std::move(gone);
  Close();
}

std::size_t FunctionPool::primed() const {
  return static_cast<std::size_t>(std::count_if(
      primed_.begin(), primed_.end(), [](const auto& worker) { return worker->started_ns != 0; }));
}

void FunctionPool::Prime() {
  if (options_.mode != FunctionMode::kPrimed) return;
  while (!closed_ && !waiting_ && primed_.size() < options_.min) {
    auto worker = StartFunction(pool_, options_, SpawnPath::kParked);
    if (!worker.ok()) return OnPrimedEnd(nullptr);
    (*worker)->on_ended = [this, raw = worker->get()] { OnPrimedEnd(raw); };
    primed_.push_back(*std::move(worker));
  }
}

// One that ended before its call: another takes its place, later each time that happens in a row,
// or a function that cannot start would keep the machine busy.
void FunctionPool::OnPrimedEnd(const FunctionWorker* worker) {
  if (worker != nullptr) {
    std::erase_if(primed_, [&](const auto& each) { return each.get() == worker; });
    ++metrics_->primed_lost;
  }
  if (closed_ || waiting_) return;
  PrimeAfter(std::chrono::milliseconds(10) * (1 << std::min(failures_++, 9)));
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
                 "{} calls of {} run and {} wait: there is room for no more", running_,
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

absl::StatusOr<FunctionPool::Taken> FunctionPool::Take() {
  std::shared_ptr<FunctionWorker> found;
  if (options_.mode == FunctionMode::kPrimed) {
    const auto alive = std::find_if(primed_.begin(), primed_.end(),
                                    [](const auto& worker) { return worker->Alive(); });
    // Those that have ended go when the pool tells so; until then nobody is given one.
    if (alive != primed_.end()) {
      found = *alive;
      primed_.erase(alive);
      found->on_ended = nullptr;
      failures_ = 0;
    } else {
      ++metrics_->misses[primed_.empty() ? "none" : "not-ready"];
    }
  }
  if (found) {
    PrimeInTime();
    return Taken{std::move(found), true};
  }
  const bool cold = options_.mode == FunctionMode::kCold;
  BROOD_ASSIGN_OR_RETURN(
      auto worker, StartFunction(pool_, options_, cold ? SpawnPath::kCold : SpawnPath::kParked));
  return Taken{std::move(worker), false};
}

}  // namespace brood
