// SPDX-License-Identifier: Apache-2.0

#include "pool/core/reactor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/reap.h"
#include "spawn/launch/signals.h"

namespace brood {
namespace {

// How often what nobody reports is looked for: workers killed from outside while parked or made.
constexpr std::int64_t kTickNs = 200'000'000;

// How long the loop sleeps while launches have to be waited for; exec tells nobody.
constexpr std::chrono::microseconds kExecPoll{50};

}  // namespace

Reactor::Reactor(PoolOptions options, Inbox& inbox) : options_(std::move(options)), inbox_(inbox) {}

Reactor::~Reactor() = default;

absl::Status Reactor::PrepareLimits() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return ErrnoError(errno, "reading RLIMIT_NOFILE");
  if (files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
  }
  // A running worker costs the launcher four descriptors, and two pipes when it is captured; one
  // that has ended three, until its namespaces are taken down; a parked one costs none. The
  // quarter that is left is for zygotes, templates and what is opened for a moment.
  const std::uint64_t all = std::min<std::uint64_t>(files.rlim_cur, 1U << 20);
  const std::uint64_t watched = options_.watched_fds * FdsOfAWatch();
  const std::uint64_t usable = (all - std::min(watched, all / 2)) * 3 / 4;
  usable_fds_ = usable;
  max_running_ = static_cast<std::uint32_t>(std::max<std::uint64_t>(usable / 8, 16));
  if (options_.max_running != 0) max_running_ = std::min(max_running_, options_.max_running);
  deferred_closes_room_ = static_cast<std::size_t>(std::min<std::uint64_t>(usable / 4, 4096));
  if (options_.launch_window == 0) {
    options_.launch_window = 2 * std::max(1U, std::thread::hardware_concurrency());
  }
  return absl::OkStatus();
}

absl::Status Reactor::Start() {
  if (options_.templates.empty()) {
    return InvalidError("a pool needs at least one template");
  }
  BROOD_ASSIGN_OR_RETURN(ring_, Ring::Create({.refusal = options_.ring_refusal}));
  BROOD_RETURN_IF_ERROR(PrepareLimits());
  BROOD_ASSIGN_OR_RETURN(launcher_fds_, LauncherFds::Open());

  LauncherResources::Wanted wanted;
  for (TemplateOptions& options : options_.templates) {
    BROOD_RETURN_IF_ERROR(CompleteOptions(options));
    wanted.Add(options.spec, options.max_workers);
  }
  wanted.more_limits = options_.limits_wanted;
  BROOD_ASSIGN_OR_RETURN(resources_, LauncherResources::Acquire(wanted));
  if (ring_->fallback()) resources_.fallbacks.push_back(*ring_->fallback());
  if (resources_.parent) {
    BROOD_RETURN_IF_ERROR(resources_.parent->MakeLeaf(kZygoteLeaf, Limits{}).status());
    zygote_leaf_.reset(
        openat(resources_.parent->fd(), kZygoteLeaf, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!zygote_leaf_.valid()) return ErrnoError(errno, "opening the zygotes' cgroup");
  }

  BROOD_RETURN_IF_ERROR(ring_->AwaitReadable(inbox_.fd(), {Source::kSubmission, 0, 0}));
  for (const TemplateOptions& options : options_.templates) {
    BROOD_RETURN_IF_ERROR(AddTemplate(options));
  }
  next_tick_ns_ = NowNs() + kTickNs;
  return absl::OkStatus();
}

void Reactor::Answer(std::unique_ptr<ActiveRequest> request, absl::StatusOr<Outcome> outcome) {
  if (outcome.ok()) {
    outcome->id = request->id;
    ++totals_.served[static_cast<std::size_t>(outcome->spawn_path)];
  }
  request->callback(std::move(outcome));
}

void Reactor::TakeInbox() {
  Inbox::Contents contents = inbox_.Take();
  // Tasks last: one may be about a request that came before it.
  for (Inbox::Used& used : contents.used) TakeBack(std::move(used));
  for (auto& request : contents.requests) Admit(std::move(request));
  for (Inbox::Task& task : contents.tasks) task(*this);
}

void Reactor::Admit(std::unique_ptr<ActiveRequest> request) {
  Template* tmpl = FindTemplate(request->request.template_name);
  if (tmpl == nullptr) {
    const std::string name = request->request.template_name;
    return Answer(std::move(request),
                  Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", name));
  }
  if (request->launched) return Adopt(std::move(request), *tmpl);
  if (tmpl->waiting.size() + tmpl->direct.size() >= options_.max_queue) {
    return Answer(std::move(request), Error(absl::StatusCode::kResourceExhausted,
                                            "{} requests wait for template {} already",
                                            options_.max_queue, tmpl->options.name));
  }
  if (request->request.spec) request->request.path = SpawnPath::kCold;
  if (request->request.path != SpawnPath::kParked) {
    tmpl->direct.push_back(std::move(request));
    return;
  }
  const bool empty = tmpl->idle->size() <= tmpl->waiting.size();
  if (empty && request->request.when_empty == WhenEmpty::kRefuse) {
    return Answer(std::move(request),
                  Error(absl::StatusCode::kResourceExhausted,
                        "no parked worker of template {} is free ({} running, {} being made)",
                        tmpl->options.name, running_, tmpl->ordered));
  }
  if (empty && request->request.when_empty == WhenEmpty::kSlower) {
    request->fallbacks.push_back({"parked", "zygote: no parked worker was free", 0});
    tmpl->direct.push_back(std::move(request));
    return;
  }
  tmpl->waiting.push_back(std::move(request));
}

// Whether one more worker may run. What has ended counts until its namespaces are closed, which
// takes the kernel longer than running what is short.
bool Reactor::HasRoom() const {
  // Its own, and those of the waits for its end and its two outputs.
  const std::uint64_t fds_of_a_running_worker = 6 + 3 * ring_->fds_of_a_wait();
  return running_ < max_running_ &&
         (running_ + 1) * fds_of_a_running_worker + deferred_closes_.size() + ring_->closing() <=
             usable_fds_;
}

void Reactor::Dispatch() {
  for (std::uint32_t i = 0; i < templates_.size(); ++i) {
    Template& tmpl = templates_[i];
    while (!tmpl.direct.empty() && HasRoom() && launching_.size() < options_.launch_window) {
      std::unique_ptr<ActiveRequest>& front = tmpl.direct.front();
      const bool taken =
          front->request.path == SpawnPath::kCold ? StartCold(i, front) : Order(i, front);
      if (!taken) break;
      tmpl.direct.pop_front();
    }
    while (!tmpl.waiting.empty() && HasRoom() && launching_.size() < options_.launch_window) {
      const std::optional<IdleList::Entry> parked = tmpl.idle->Take();
      if (!parked) break;
      if (BuryIfDead(parked->worker)) continue;
      if (!Launch(parked->worker, tmpl.waiting.front())) {
        tmpl.idle->Put(*parked);
        break;
      }
      tmpl.waiting.pop_front();
    }
    tmpl.idle->Report(HasRoom() && tmpl.waiting.empty() && tmpl.direct.empty(), launching_.size());
    Refill(i);
  }
}

std::optional<std::chrono::nanoseconds> Reactor::NextTimeout() const {
  std::int64_t at = next_tick_ns_;
  if (!deadlines_.empty()) at = std::min(at, deadlines_.begin()->first);
  for (const Waiter& waiter : waiters_) at = std::min(at, waiter.deadline_ns);
  for (const Template& tmpl : templates_) {
    // Nothing is made before a retry is due: what that is for must not wake us.
    if (tmpl.retry_at_ns != 0) {
      at = std::min(at, tmpl.retry_at_ns);
    } else if (!tmpl.filling && tmpl.idle->size() + tmpl.ordered < tmpl.options.parked) {
      at = std::min(at, tmpl.last_launch_ns + kQuietNs);
    }
    const bool held_up = (!tmpl.waiting.empty() && tmpl.idle->size() > 0) || !tmpl.direct.empty();
    if (held_up && !launching_.empty()) {
      at = std::min(at, NowNs() + std::chrono::nanoseconds(kExecPoll).count());
    }
  }
  return std::chrono::nanoseconds(std::max<std::int64_t>(0, at - NowNs()));
}

void Reactor::Handle(const Completion& completion) {
  const Token token = completion.token;
  switch (token.source) {
    case Source::kNothing:
      return;
    case Source::kSubmission:
      (void)ring_->AwaitAgain(inbox_.fd(), POLLIN, token);
      return;  // the loop looks into the inbox every time round
    case Source::kZygoteNotice:
      OnZygoteNotice(token.index);
      return;
    case Source::kZygoteDeath:
      OnZygoteDeath(token.index);
      return;
    case Source::kWatch:
      OnWatch(completion);
      return;
    case Source::kWorkerExit:
    case Source::kWorkerOut:
    case Source::kWorkerErr:
      break;
  }
  const Worker& worker = workers_[token.index];
  if ((worker.generation & 0xffffff) != token.generation || completion.result < 0) return;
  if (token.source == Source::kWorkerExit) {
    OnWorkerExit(token.index);
  } else {
    OnOutput(token.index, token.source == Source::kWorkerOut ? 0 : 1);
  }
}

void Reactor::Tick() {
  const std::int64_t now = NowNs();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const Token token = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Worker& worker = workers_[token.index];
    if ((worker.generation & 0xffffff) != token.generation ||
        worker.phase != WorkerPhase::kRunning || worker.session.exit) {
      continue;
    }
    worker.session.TimeOut(SubjectOf(worker));
  }
  if (kill_at_ns_ && *kill_at_ns_ <= now && !killed_all_) {
    killed_all_ = true;
    for (Worker& worker : workers_) {
      if (worker.phase == WorkerPhase::kRunning && !worker.session.exit) {
        worker.session.KillAsAsked(SubjectOf(worker));
      } else if (worker.phase == WorkerPhase::kParked) {
        // Its caller may have launched it and be waiting; parked ones have no use any more.
        const absl::StatusOr<UniqueFd> pidfd = OpenChild(BoxOf(worker).pid);
        if (pidfd.ok()) syscall(SYS_pidfd_send_signal, pidfd->get(), SIGKILL, nullptr, 0);
      }
    }
    RefuseQueued();
  }
  if (now < next_tick_ns_) return;
  next_tick_ns_ = now + kTickNs;
  for (const std::uint32_t tmpl : std::exchange(to_restart_, {})) RestartZygote(tmpl);
  for (std::uint32_t i = 0; i < keepers_.size(); ++i) {
    if (keepers_[i]->ordered.empty()) continue;
    EndFrozenZygote(*keepers_[i]);
    CollectMade(i, /*look_for_dead=*/true);
  }
  const std::uint64_t served = totals_.served[0] + totals_.served[1] + totals_.served[2];
  // Workers that run do not count: primed ones do so for hours.
  if (launching_.empty() && served == served_at_tick_) RunDeferredCloses();
  served_at_tick_ = served;
  for (Template& tmpl : templates_) {
    SweepParked(tmpl);
    tmpl.leaves.Sweep();
    if (tmpl.retired) EndRetired(tmpl);
  }
  std::erase_if(used_up_, [&](const std::string& leaf) {
    return resources_.parent->RemoveLeaf(leaf, std::chrono::milliseconds(0)).ok();
  });
}

bool Reactor::Idle() const {
  if (running_ > 0) return false;
  return std::all_of(templates_.begin(), templates_.end(), [](const Template& tmpl) {
    return tmpl.waiting.empty() && tmpl.direct.empty() && tmpl.idle->underway() == 0;
  });
}

// Takes down the namespaces of workers that have ended: when no request has come for a tick, or
// when there are too many. All at once, since the kernel takes network namespaces down in batches
// whose grace periods cost the same for one as for a hundred.
void Reactor::RunDeferredCloses() {
  for (UniqueFd& fd : deferred_closes_) {
    if (ring_) ring_->CloseElsewhere(fd.release());
  }
  deferred_closes_.clear();
}

void Reactor::AnswerWaiters() {
  const std::int64_t now = NowNs();
  std::erase_if(waiters_, [&](Waiter& waiter) {
    const Template& tmpl = templates_[waiter.tmpl];
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
    ForgetLaunched();
    Dispatch();
    AnswerWaiters();
    if (deferred_closes_.size() > deferred_closes_room_) RunDeferredCloses();
    if (kill_at_ns_ && Idle()) break;
    completions.clear();
    const std::optional<std::chrono::nanoseconds> timeout =
        inbox_.HasOwn() ? std::chrono::nanoseconds(0) : NextTimeout();
    if (const absl::Status waited = ring_->Wait(timeout, completions); !waited.ok()) {
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
  for (Template& tmpl : templates_) {
    tmpl.options.parked = 0;
    tmpl.idle->Close();
  }
  next_tick_ns_ = std::min(next_tick_ns_, kill_at_ns);
}

void Reactor::Refuse(std::unique_ptr<ActiveRequest> request) {
  Answer(std::move(request),
         Error(absl::StatusCode::kUnavailable, "the pool was shut down before its turn came"));
}

void Reactor::RefuseQueued() {
  for (Template& tmpl : templates_) {
    for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
      while (!queue->empty()) {
        auto request = std::move(queue->front());
        queue->pop_front();
        Refuse(std::move(request));
      }
    }
  }
}

// Zygotes first, so that nobody is born any more; then everybody they bore.
void Reactor::EndEverything() {
  // Requests that came in with the last breath, or that a broken ring left behind.
  Inbox::Contents late = inbox_.Take();
  for (auto& request : late.requests) Refuse(std::move(request));
  RefuseQueued();

  for (const auto& keeper : keepers_) {
    if (keeper->zygote) keeper->zygote->Stop();
  }
  if (resources_.parent) (void)resources_.parent->KillAll();
  for (Worker& worker : workers_) {
    if (worker.phase == WorkerPhase::kFree) continue;
    if (worker.cold) {
      worker.cold.reset();
    } else if (!worker.session.exit) {
      EndUnseen(worker);
    }
    if (worker.request) Refuse(std::move(worker.request));
  }
  RunDeferredCloses();
  for (Worker& worker : workers_) worker.kept = {};
  if (ring_) (void)ring_->FinishCloses();
  keepers_.clear();
  ring_.reset();
  zygote_leaf_.reset();
  if (resources_.parent) {
    if (const absl::Status removed = resources_.parent->Remove(); !removed.ok()) result_ = removed;
  }
}

void Reactor::SetParked(const std::string& name, std::uint32_t parked) {
  if (Template* tmpl = FindTemplate(name); tmpl != nullptr && !kill_at_ns_) {
    tmpl->options.parked = std::min(parked, tmpl->options.max_workers);
  }
}

void Reactor::AwaitParked(const std::string& name, std::uint32_t count, std::int64_t deadline_ns,
                          ParkedWaiter waiter) {
  for (std::uint32_t i = 0; i < templates_.size(); ++i) {
    if (templates_[i].retired || (!name.empty() && templates_[i].options.name != name)) continue;
    waiters_.push_back({i, count, deadline_ns, std::move(waiter)});
    return;
  }
  waiter(Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", name));
}

PoolStats Reactor::Stats() const {
  PoolStats stats = totals_;
  stats.running = running_;
  stats.fallbacks = resources_.fallbacks;
  for (const Template& tmpl : templates_) {
    stats.parked += static_cast<std::uint32_t>(tmpl.idle->size());
    stats.being_made += tmpl.ordered;
    stats.queued += static_cast<std::uint32_t>(tmpl.waiting.size() + tmpl.direct.size());
  }
  return stats;
}

std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> Reactor::IdleLists() const {
  std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> idle_lists;
  for (const Template& tmpl : templates_) {
    if (!tmpl.retired) idle_lists.emplace_back(tmpl.options.name, tmpl.idle);
  }
  return idle_lists;
}

absl::Status Reactor::Signal(std::uint64_t id, const SignalOrder& order) {
  for (Worker& worker : workers_) {
    if (worker.phase != WorkerPhase::kRunning || worker.session.exit || worker.request->id != id)
      continue;
    return worker.session.Signal(SubjectOf(worker), order);
  }
  return Error(absl::StatusCode::kNotFound, "the request has no running worker");
}

bool Reactor::RunsCommand(std::uint64_t id) {
  return std::any_of(workers_.begin(), workers_.end(), [&](const Worker& worker) {
    return worker.phase == WorkerPhase::kRunning && !worker.session.exit &&
           worker.request->id == id && HasExeced(worker);
  });
}

absl::Status Reactor::Kill(std::uint64_t id) {
  for (Worker& worker : workers_) {
    if (!worker.request || worker.session.exit || worker.request->id != id) continue;
    worker.session.KillAsAsked(SubjectOf(worker));
    return absl::OkStatus();
  }
  for (Template& tmpl : templates_) {
    for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
      const auto found = std::find_if(queue->begin(), queue->end(),
                                      [&](const auto& request) { return request->id == id; });
      if (found == queue->end()) continue;
      std::unique_ptr<ActiveRequest> request = std::move(*found);
      queue->erase(found);
      Answer(std::move(request),
             Error(absl::StatusCode::kCancelled, "the request was ended before its turn came"));
      return absl::OkStatus();
    }
  }
  return Error(absl::StatusCode::kNotFound, "the request has been answered");
}

absl::StatusOr<Pool::WatchId> Reactor::Watch(int fd, short events,
                                             std::function<void(short)> ready) {
  if (free_watches_.empty()) {
    watches_.emplace_back();
    free_watches_.push_back(static_cast<std::uint32_t>(watches_.size() - 1));
  }
  const std::uint32_t index = free_watches_.back();
  FdWatch& watch = watches_[index];
  BROOD_RETURN_IF_ERROR(
      ring_->Await(fd, events, {Source::kWatch, watch.generation & 0xffffff, index}));
  free_watches_.pop_back();
  watch.fd = fd;
  watch.events = events;
  watch.ready = std::make_shared<const std::function<void(short)>>(std::move(ready));
  return std::uint64_t{watch.generation} << 32 | index;
}

void Reactor::Unwatch(Pool::WatchId id) {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= watches_.size() || watches_[index].generation != id >> 32) return;
  FdWatch& watch = watches_[index];
  if (watch.ready == nullptr) return;
  ring_->Cancel({Source::kWatch, watch.generation & 0xffffff, index});
  ++watch.generation;
  watch.ready.reset();
  free_watches_.push_back(index);
}

void Reactor::OnWatch(const Completion& completion) {
  const Token token = completion.token;
  const FdWatch& watch = watches_[token.index];
  if ((watch.generation & 0xffffff) != token.generation || watch.ready == nullptr) return;
  const auto ready = watch.ready;  // it may be unwatched by what it calls
  (*ready)(completion.result < 0 ? static_cast<short>(POLLERR)
                                 : static_cast<short>(completion.result));
  if ((watch.generation & 0xffffff) != token.generation || watch.ready == nullptr) return;
  (void)ring_->AwaitAgain(watch.fd, watch.events, token);
}

std::vector<int> Reactor::ZygotePids() const {
  std::vector<int> pids;
  for (const auto& keeper : keepers_) {
    if (keeper->alive && keeper->zygote) pids.push_back(keeper->zygote->pid());
  }
  return pids;
}

}  // namespace brood
