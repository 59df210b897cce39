// SPDX-License-Identifier: Apache-2.0

#include "pool/core/reactor.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// How often what nobody reports is looked for.
constexpr std::int64_t kTickNs = 200'000'000;

// How long the loop sleeps while launches have to be waited for; exec tells nobody.
constexpr std::int64_t kExecPollNs = 50'000;

}  // namespace

Reactor::Reactor(PoolOptions options, Inbox& inbox) : inbox_(inbox) {
  pool_.options = std::move(options);
}

Reactor::~Reactor() = default;

absl::Status Reactor::Start() {
  PoolOptions& options = pool_.options;
  if (options.templates.empty()) {
    return InvalidError("a pool needs at least one template");
  }
  BROOD_ASSIGN_OR_RETURN(pool_.ring, Ring::Create({.refusal = options.ring_refusal}));
  watches_.emplace(*pool_.ring);
  BROOD_RETURN_IF_ERROR(dispatcher_.PrepareLimits());
  BROOD_ASSIGN_OR_RETURN(pool_.launcher_fds, LauncherFds::Open());

  LauncherResources::Wanted wanted;
  for (TemplateOptions& tmpl : options.templates) {
    BROOD_RETURN_IF_ERROR(CompleteOptions(tmpl));
    wanted.Add(tmpl.spec, tmpl.max_workers);
  }
  wanted.more_limits = options.limits_wanted;
  BROOD_ASSIGN_OR_RETURN(pool_.resources, LauncherResources::Acquire(wanted));
  if (pool_.ring->fallback()) pool_.resources.fallbacks.push_back(*pool_.ring->fallback());
  if (const std::optional<ParentCgroup>& parent = pool_.resources.parent) {
    BROOD_RETURN_IF_ERROR(parent->MakeLeaf(kZygoteLeaf, Limits{}).status());
    pool_.zygote_leaf.reset(openat(parent->fd(), kZygoteLeaf, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!pool_.zygote_leaf.valid()) return ErrnoError(errno, "opening the zygotes' cgroup");
  }

  BROOD_RETURN_IF_ERROR(pool_.ring->AwaitReadable(inbox_.fd(), {Source::kSubmission, 0, 0}));
  for (const TemplateOptions& tmpl : options.templates) {
    BROOD_RETURN_IF_ERROR(templates_.Add(tmpl));
  }
  next_tick_ns_ = NowNs() + kTickNs;
  return absl::OkStatus();
}

void Reactor::TakeInbox() {
  Inbox::Contents contents = inbox_.Take();
  // Tasks last: one may be about a request that came before it.
  for (Inbox::Used& used : contents.used) dispatcher_.TakeBack(std::move(used));
  for (auto& request : contents.requests) dispatcher_.Admit(std::move(request));
  for (Inbox::Task& task : contents.tasks) task(*this);
}

std::chrono::nanoseconds Reactor::NextTimeout() const {
  std::int64_t at = next_tick_ns_;
  if (const auto deadline = supervisor_.next_deadline_ns()) at = std::min(at, *deadline);
  for (const Waiter& waiter : waiters_) at = std::min(at, waiter.deadline_ns);
  for (const Template& tmpl : pool_.templates) {
    if (const auto fill = refill_.NextFillNs(tmpl)) at = std::min(at, *fill);
  }
  const std::int64_t now = NowNs();
  if (dispatcher_.HeldUp()) at = std::min(at, now + kExecPollNs);
  return std::chrono::nanoseconds(std::max<std::int64_t>(0, at - now));
}

void Reactor::Handle(const Completion& completion) {
  const Token token = completion.token;
  switch (token.source) {
    case Source::kNothing:
      return;
    case Source::kSubmission:
      (void)pool_.ring->AwaitAgain(inbox_.fd(), POLLIN, token);
      return;  // the loop looks into the inbox every time round
    case Source::kZygoteNotice:
      return refill_.OnZygoteNotice(token.index);
    case Source::kZygoteDeath:
      return refill_.OnZygoteDeath(token.index);
    case Source::kWatch:
      return watches_->OnReady(completion);
    case Source::kWorkerExit:
    case Source::kWorkerOut:
    case Source::kWorkerErr:
      break;
  }
  if (!pool_.IsCurrent(token) || completion.result < 0) return;
  if (token.source == Source::kWorkerExit) {
    supervisor_.OnExit(token.index);
  } else {
    supervisor_.OnOutput(token.index, token.source == Source::kWorkerOut ? 0 : 1);
  }
}

void Reactor::Tick() {
  const std::int64_t now = NowNs();
  supervisor_.EndOverdue(now);
  if (kill_at_ns_ && *kill_at_ns_ <= now && !pool_.kill_all) {
    pool_.kill_all = true;
    supervisor_.KillAll();
    dispatcher_.RefuseQueued();
  }
  if (now < next_tick_ns_) return;
  next_tick_ns_ = now + kTickNs;
  refill_.Tick();
  // When no request has come for a tick. Workers that run do not count: primed ones do so for
  // hours.
  const auto& by_path = pool_.totals.served;
  const std::uint64_t served =
      std::accumulate(std::begin(by_path), std::end(by_path), std::uint64_t{0});
  const bool quiet = supervisor_.launching() == 0 && served == served_at_tick_;
  if (quiet) records_.CloseDeferred();
  served_at_tick_ = served;
  templates_.Tick();
  records_.Tick();
}

bool Reactor::Idle() const {
  if (supervisor_.running() > 0) return false;
  return std::all_of(pool_.templates.begin(), pool_.templates.end(), [](const Template& tmpl) {
    return tmpl.waiting.empty() && tmpl.direct.empty() && tmpl.idle->underway() == 0;
  });
}

void Reactor::AnswerWaiters() {
  const std::int64_t now = NowNs();
  std::erase_if(waiters_, [&](Waiter& waiter) {
    const Template& tmpl = *waiter.tmpl;
    const std::size_t parked = tmpl.idle->size();
    if (parked >= waiter.count) {
      waiter.call(absl::OkStatus());
      return true;
    }
    if (now < waiter.deadline_ns && !kill_at_ns_) return false;
    waiter.call(Error(absl::StatusCode::kDeadlineExceeded,
                      "{} of {} workers of template {} are parked{}{}", parked, waiter.count,
                      tmpl.options.name,
                      tmpl.last_failure.empty() ? "" : "; the last failure: ", tmpl.last_failure));
    return true;
  });
}

void Reactor::Loop() {
  std::vector<Completion> completions;
  while (true) {
    TakeInbox();
    supervisor_.LookAtLaunches();
    dispatcher_.Run();
    AnswerWaiters();
    if (records_.deferred_closes() > dispatcher_.deferred_closes_room()) records_.CloseDeferred();
    if (kill_at_ns_ && Idle()) break;
    completions.clear();
    const std::chrono::nanoseconds timeout =
        inbox_.HasOwn() ? std::chrono::nanoseconds(0) : NextTimeout();
    if (const absl::Status waited = pool_.ring->Wait(timeout, completions); !waited.ok()) {
      result_ = waited;
      break;
    }
    for (const Completion& completion : completions) Handle(completion);
    Tick();
  }
  EndEverything();
}

void Reactor::BeginShutdown(std::int64_t kill_at_ns) {
  inbox_.Close();
  kill_at_ns_ = kill_at_ns;
  for (Template& tmpl : pool_.templates) {
    tmpl.options.parked = 0;
    tmpl.idle->Close();
  }
  next_tick_ns_ = std::min(next_tick_ns_, kill_at_ns);
}

// Zygotes first, so that no worker is cloned any more; then all their workers.
void Reactor::EndEverything() {
  // Requests that came in with the last breath, or that a broken ring left behind.
  Inbox::Contents late = inbox_.Take();
  for (auto& request : late.requests) dispatcher_.Refuse(std::move(request));
  dispatcher_.RefuseQueued();

  for (const auto& keeper : pool_.keepers) {
    if (keeper->zygote) keeper->zygote->Stop();
  }
  if (pool_.resources.parent) (void)pool_.resources.parent->KillAll();
  for (Worker& worker : pool_.workers) {
    if (worker.phase == WorkerPhase::kFree) continue;
    if (worker.cold) {
      worker.cold.reset();
    } else if (!worker.session.exit) {
      supervisor_.EndUnseen(worker);
    }
    if (worker.request) dispatcher_.Refuse(std::move(worker.request));
  }
  for (const auto& keeper : pool_.keepers) records_.EndKeeper(*keeper);
  records_.slots().ReapCloners();
  records_.CloseDeferred();
  for (Worker& worker : pool_.workers) worker.kept = {};
  if (pool_.ring) (void)pool_.ring->FinishCloses();
  pool_.keepers.clear();
  watches_.reset();
  pool_.ring.reset();
  pool_.zygote_leaf.reset();
  if (pool_.resources.parent) {
    const absl::Status removed = pool_.resources.parent->Remove();
    if (!removed.ok()) result_ = removed;
  }
}

void Reactor::SetParked(const std::string& name, std::uint32_t parked) {
  if (Template* tmpl = pool_.Find(name); tmpl != nullptr && !kill_at_ns_) {
    tmpl->options.parked = std::min(parked, tmpl->options.max_workers);
  }
}

void Reactor::AwaitParked(const std::string& name, std::uint32_t count, std::int64_t deadline_ns,
                          ParkedWaiter waiter) {
  if (const Template* const tmpl = pool_.Find(name)) {
    waiters_.push_back({tmpl, count, deadline_ns, std::move(waiter)});
  } else {
    waiter(Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", name));
  }
}

PoolStats Reactor::Stats() const {
  PoolStats stats = pool_.totals;
  stats.running = supervisor_.running();
  stats.fallbacks = pool_.resources.fallbacks;
  for (const Template& tmpl : pool_.templates) {
    stats.parked += static_cast<std::uint32_t>(tmpl.idle->size());
    stats.being_made += tmpl.ordered;
    for (const std::uint32_t k : tmpl.keepers) {
      stats.slots.idle += static_cast<std::uint32_t>(pool_.keepers[k]->kept_slots.size());
    }
    stats.queued += static_cast<std::uint32_t>(tmpl.waiting.size() + tmpl.direct.size());
  }
  return stats;
}

std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> Reactor::IdleLists() const {
  std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> idle_lists;
  for (const Template& tmpl : pool_.templates) {
    if (!tmpl.retired) idle_lists.emplace_back(tmpl.options.name, tmpl.idle);
  }
  return idle_lists;
}

absl::Status Reactor::Kill(std::uint64_t request) {
  if (supervisor_.Kill(request) || dispatcher_.Cancel(request)) return absl::OkStatus();
  return Error(absl::StatusCode::kNotFound, "the request has been answered");
}

std::vector<int> Reactor::ZygotePids() const {
  std::vector<int> pids;
  for (const auto& keeper : pool_.keepers) {
    if (keeper->alive && keeper->zygote) pids.push_back(keeper->zygote->pid());
  }
  return pids;
}

std::vector<int> Reactor::SlotPids() const {
  std::vector<int> pids;
  for (const auto& keeper : pool_.keepers) {
    for (const std::uint32_t slot : keeper->cloners) pids.push_back(keeper->slots[slot].cloner);
  }
  return pids;
}

}  // namespace brood
