// SPDX-License-Identifier: Apache-2.0

// The reactor's part that has workers made: zygotes, orders, parking.
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "pool/core/reactor.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/launch/cold.h"
#include "spawn/limits/advice.h"
#include "spawn/limits/limits_met.h"

namespace brood {
namespace {

// Orders a zygote may have at once. Enough to keep it busy between two looks of ours, few enough
// that a request of its own does not stand behind a long queue.
constexpr std::size_t kOrdersAhead = 16;

constexpr std::size_t kParkTimesKept = 4096;

// Why a worker was killed that had not come as far as its command.
std::string KilledInSetUp(const Limits& limits, const LeafUsage& usage) {
  Outcome outcome;
  outcome.end = End::kOom;
  outcome.usage = usage;
  std::string sentence = "the worker was killed while it was being set up";
  for (const std::string& met : LimitsMet(limits, outcome)) sentence += "; " + met;
  return sentence;
}

std::int64_t RetryDelayNs(int failures) {
  return std::int64_t{100'000'000} << std::min(failures - 1, 5);
}

}  // namespace

absl::Status Reactor::StartZygote(std::uint32_t t) {
  Template& tmpl = templates_[t];
  // It would never say that it is ready.
  if (LeafFrozen(kZygoteLeaf)) {
    return Error(absl::StatusCode::kFailedPrecondition, "starting a zygote of template {}: {}: {}",
                 tmpl.options.name, ErrnoText(EBUSY), Advice(Step::kBegin, EBUSY));
  }
  Zygote::Options options;
  options.slots = (tmpl.options.max_workers + tmpl.options.zygotes - 1) / tmpl.options.zygotes;
  options.parent_fd = resources_.parent ? resources_.parent->fd() : -1;
  options.cgroup_fd = zygote_leaf_.get();
  BROOD_ASSIGN_OR_RETURN(std::unique_ptr<Zygote> zygote, Zygote::Start(tmpl.blueprint, options));
  const auto place = static_cast<std::uint32_t>(keepers_.size());
  auto keeper = std::make_unique<ZygoteKeeper>();
  keeper->tmpl = t;
  for (std::uint32_t slot = options.slots; slot > 0; --slot) {
    keeper->free_slots.push_back(slot - 1);
  }
  BROOD_RETURN_IF_ERROR(
      ring_->AwaitReadable(zygote->notify_fd(), {Source::kZygoteNotice, 0, place}));
  BROOD_RETURN_IF_ERROR(ring_->AwaitReadable(zygote->pidfd(), {Source::kZygoteDeath, 0, place}));
  keeper->zygote = std::move(zygote);
  keepers_.push_back(std::move(keeper));
  tmpl.keepers.push_back(place);
  return absl::OkStatus();
}

std::uint32_t Reactor::TakeWorkerRecord() {
  if (free_workers_.empty()) {
    workers_.emplace_back();
    return static_cast<std::uint32_t>(workers_.size() - 1);
  }
  const std::uint32_t index = free_workers_.back();
  free_workers_.pop_back();
  return index;
}

void Reactor::FreeWorker(std::uint32_t w) {
  Worker& worker = workers_[w];
  const bool was_init = BlueprintOf(worker).spec().is_new(NamespaceKind::kPid);
  Unequip(worker, was_init);
  --templates_[worker.tmpl].alive;
  if (!worker.cold) {
    ZygoteKeeper& keeper = *keepers_[worker.keeper];
    keeper.zygote->ReleaseLaunch(worker.slot);
    if (worker.path == SpawnPath::kZygote) (void)keeper.zygote->TakePidfd(worker.slot, -1);
    keeper.zygote->mailbox(worker.slot) = Mailbox{};
    keeper.free_slots.push_back(worker.slot);
    if (--keeper.workers == 0 && !keeper.alive) keeper.zygote.reset();
  }
  for (UniqueFd& fd : worker.kept) {
    if (fd.valid()) deferred_closes_.push_back(std::move(fd));
  }
  worker.Reset();
  free_workers_.push_back(w);
}

// The record of a worker that was equipped and never born.
void Reactor::DropWorker(std::uint32_t w) {
  Unequip(workers_[w], /*empty=*/true);
  workers_[w].Reset();
  free_workers_.push_back(w);
}

absl::Status Reactor::TakeIds(Worker& worker, const Spec& spec) {
  if (!spec.is_new(NamespaceKind::kUser) || !ThisMachine().id_ranges) return absl::OkStatus();
  // A template or a request that came later may be the first to need them.
  if (!resources_.ids.is_open()) {
    BROOD_ASSIGN_OR_RETURN(resources_.ids, IdRanges::Open());
  }
  BROOD_ASSIGN_OR_RETURN(worker.id_first, resources_.ids.Take());
  return absl::OkStatus();
}

absl::Status Reactor::Equip(Worker& worker, Template& tmpl) {
  const Spec& spec = tmpl.options.spec;
  BROOD_RETURN_IF_ERROR(TakeIds(worker, spec));
  absl::StatusOr<std::string> leaf = tmpl.leaves.Take();
  if (!leaf.ok()) {
    if (worker.id_first != 0) resources_.ids.Return(worker.id_first);
    worker.id_first = 0;
    return leaf.status();
  }
  worker.leaf = *std::move(leaf);
  return absl::OkStatus();
}

// A leaf and ids for a request with a spec of its own.
absl::Status Reactor::EquipOwn(Worker& worker, const Request& request) {
  const Spec& spec = *request.spec;
  BROOD_RETURN_IF_ERROR(TakeIds(worker, spec));
  if (!spec.use_cgroup || !resources_.parent || !request.leaf.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> leaf =
      resources_.parent->MakeLeaf(fmt::format("own-{}", own_leaves_++), spec.limits);
  if (!leaf.ok()) {
    if (worker.id_first != 0) resources_.ids.Return(worker.id_first);
    return leaf.status();
  }
  worker.leaf = *std::move(leaf);
  worker.own_leaf = true;
  return absl::OkStatus();
}

void Reactor::Unequip(Worker& worker, bool empty) {
  if (worker.own_leaf) {
    if (!empty) (void)resources_.parent->KillLeaf(worker.leaf);
    used_up_.push_back(std::move(worker.leaf));
  } else {
    templates_[worker.tmpl].leaves.Return(std::move(worker.leaf),
                                          empty && !worker.session.leaf_spoilt);
  }
  if (worker.id_first != 0) resources_.ids.Return(worker.id_first);
}

// Asks a zygote for one worker: to be parked, or (with `request`) to run it at once. False when no
// zygote has room or the worker cannot be equipped now; `request` is taken otherwise.
bool Reactor::Order(std::uint32_t t, std::unique_ptr<ActiveRequest>& request) {
  Template& tmpl = templates_[t];
  ZygoteKeeper* best = nullptr;
  std::uint32_t best_index = 0;
  for (const std::uint32_t k : tmpl.keepers) {
    ZygoteKeeper& keeper = *keepers_[k];
    if (keeper.free_slots.empty()) continue;
    if (best == nullptr || keeper.ordered.size() < best->ordered.size()) {
      best = &keeper;
      best_index = k;
    }
  }
  if (best == nullptr || best->ordered.size() >= kOrdersAhead) return false;
  if (tmpl.alive >= tmpl.options.max_workers) return false;

  const std::uint32_t w = TakeWorkerRecord();
  Worker& worker = workers_[w];
  worker.tmpl = t;
  if (const absl::Status equipped = Equip(worker, tmpl); !equipped.ok()) {
    tmpl.last_failure = std::string(Message(equipped));
    free_workers_.push_back(w);
    // Ids come back when some worker of ours ends. Those of others, and a cgroup that cannot be
    // made, are not worth waiting for.
    const bool wants_ids =
        tmpl.options.spec.is_new(NamespaceKind::kUser) && ThisMachine().id_ranges;
    if (!request || (wants_ids && resources_.ids.all_taken())) return false;
    Answer(std::move(request), equipped);
    return true;
  }
  worker.keeper = best_index;
  worker.slot = best->free_slots.back();
  worker.path = request ? SpawnPath::kZygote : SpawnPath::kParked;

  Mailbox& box = best->zygote->mailbox(worker.slot);
  if (worker.leaf.size() < sizeof(box.leaf)) {
    std::memcpy(box.leaf, worker.leaf.c_str(), worker.leaf.size() + 1);
  }
  SetIdMap(tmpl.blueprint, worker.id_first, box);
  if (request) {
    bool not_now = !best->zygote->WriteLaunch(worker.slot, LaunchLayout(request->request.command));
    if (!not_now) {
      if (const absl::Status given = GiveStdio(worker, request->request.command, not_now);
          !given.ok()) {
        Answer(std::move(request), given);
        not_now = true;
        request = nullptr;
      }
    }
    if (not_now) {
      const bool answered = request == nullptr;
      best->zygote->ReleaseLaunch(worker.slot);
      box = Mailbox{};
      DropWorker(w);
      return answered;
    }
    worker.session.facts.requested_ns = request->submitted_ns;
    worker.request = std::move(request);
    Launching(w);
    ++running_;
  } else {
    ++tmpl.ordered;
  }
  best->free_slots.pop_back();
  ++best->workers;
  ++tmpl.alive;
  worker.phase = WorkerPhase::kOrdered;
  worker.ordered_ns = NowNs();
  StoreState(box, WorkerState::kOrdered);
  best->ordered.push_back(w);
  best->unsent.push_back(worker.slot);
  if (worker.request) SendOrders(*best);
  return true;
}

void Reactor::SendOrders(ZygoteKeeper& keeper) {
  while (!keeper.unsent.empty()) {
    const std::size_t count = std::min(keeper.unsent.size(), kMaxOrders);
    // A full queue empties when the zygote has worked on; a dead zygote is noticed by its pidfd.
    if (!keeper.zygote->Order({keeper.unsent.data(), count}).ok()) return;
    keeper.unsent.erase(keeper.unsent.begin(),
                        keeper.unsent.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

void Reactor::Refill(std::uint32_t t) {
  Template& tmpl = templates_[t];
  if (tmpl.retry_at_ns != 0 && NowNs() < tmpl.retry_at_ns) return;
  tmpl.retry_at_ns = 0;
  // A pool that parks nothing ahead still serves those who wait for a parked worker.
  const std::size_t wanted = std::max<std::size_t>(tmpl.options.parked, tmpl.waiting.size());
  const std::size_t coming = tmpl.idle->size() + tmpl.ordered;
  if (coming >= wanted) {
    tmpl.filling = false;
    return;
  }
  // Making a worker slows the launch that runs beside it, so it waits for a quiet moment while
  // there are plenty.
  tmpl.filling = tmpl.filling || !tmpl.waiting.empty() || coming <= wanted / 2 ||
                 NowNs() >= tmpl.last_launch_ns + kQuietNs;
  if (!tmpl.filling) return;
  std::unique_ptr<ActiveRequest> nobody;
  while (tmpl.idle->size() + tmpl.ordered < wanted && Order(t, nobody)) {
  }
  for (const std::uint32_t k : tmpl.keepers) SendOrders(*keepers_[k]);
}

void Reactor::OnZygoteNotice(std::uint32_t k) {
  ZygoteKeeper& keeper = *keepers_[k];
  if (!keeper.zygote) return;
  // Emptied before the look: whatever happens during it makes the eventfd readable again.
  std::uint64_t count = 0;
  (void)!read(keeper.zygote->notify_fd(), &count, sizeof(count));
  (void)ring_->AwaitAgain(keeper.zygote->notify_fd(), POLLIN, {Source::kZygoteNotice, 0, k});
  CollectMade(k, /*look_for_dead=*/false);
}

// Looks which of the ordered workers have come to something; with `look_for_dead`, a system call
// for each, also which have been killed meanwhile.
void Reactor::CollectMade(std::uint32_t k, bool look_for_dead) {
  ZygoteKeeper& keeper = *keepers_[k];
  if (!keeper.zygote) return;
  std::vector<std::uint32_t> made;
  std::vector<std::uint32_t> not_made;
  std::erase_if(keeper.ordered, [&](std::uint32_t w) {
    const Mailbox& box = keeper.zygote->mailbox(workers_[w].slot);
    switch (LoadState(box)) {
      case WorkerState::kParked:
      case WorkerState::kLaunch:
        made.push_back(w);
        return true;
      case WorkerState::kFailed:
      case WorkerState::kAbort:
        not_made.push_back(w);
        return true;
      default:
        // Killed from outside while it set itself up, or born into a frozen cgroup: nobody tells.
        if (!look_for_dead || box.pid <= 0) return false;
        if (!HasEnded(box.pid)) {
          Worker& worker = workers_[w];
          worker.session.facts.frozen =
              NowNs() - box.birth_ns > kLongLaunchNs && LeafFrozen(worker.leaf);
          if (!worker.session.facts.frozen) return false;
        }
        not_made.push_back(w);
        return true;
    }
  });
  for (const std::uint32_t w : made) OnMade(w);
  for (const std::uint32_t w : not_made) OnNotMade(w);
}

void Reactor::OnMade(std::uint32_t w) {
  Worker& worker = workers_[w];
  Template& tmpl = templates_[worker.tmpl];
  tmpl.failures = 0;
  tmpl.last_failure.clear();
  if (worker.request) {
    worker.phase = WorkerPhase::kRunning;
    const int pid = BoxOf(worker).pid;
    worker.pidfd = keepers_[worker.keeper]->zygote->TakePidfd(worker.slot, pid);
    absl::Status watched;
    if (!worker.pidfd.valid()) {  // no descriptor was free for it
      absl::StatusOr<UniqueFd> pidfd = OpenChild(pid);
      watched = pidfd.status();
      if (pidfd.ok()) worker.pidfd = *std::move(pidfd);
    }
    if (watched.ok()) watched = WatchWorker(w);
    if (watched.ok()) {
      TellStarted(worker);
      // Asked for before there was anybody to kill.
      if (worker.session.facts.killed || killed_all_) worker.session.Kill(SubjectOf(worker));
    } else {
      Abandon(w, watched);
    }
    return;
  }
  --tmpl.ordered;
  if (tmpl.retired) {
    KillAndReap(BoxOf(worker).pid);
    FreeWorker(w);
    return;
  }
  worker.phase = WorkerPhase::kParked;
  tmpl.idle->Put({w, keepers_[worker.keeper]->zygote.get(), worker.slot});
  ++totals_.parked_total;
  const Mailbox& box = BoxOf(worker);
  const double park_us = static_cast<double>(box.parked_ns - box.birth_ns) / 1000;
  if (totals_.park_us.size() < kParkTimesKept) {
    totals_.park_us.push_back(park_us);
  } else {
    totals_.park_us[park_next_++ % kParkTimesKept] = park_us;
  }
}

void Reactor::OnNotMade(std::uint32_t w) {
  Worker& worker = workers_[w];
  Template& tmpl = templates_[worker.tmpl];
  const Mailbox& box = BoxOf(worker);
  Exit exit;
  if (box.pid > 0) KillAndReap(box.pid);
  exit.reaped_ns = NowNs();
  exit.code = CLD_EXITED;
  const Failure failure = FailureOf(box, worker.session.facts);
  if (!box.failure.failed() && !worker.session.facts.timed_out) exit.code = CLD_KILLED;
  worker.session.leaf_spoilt |= exit.code == CLD_KILLED;  // or perhaps; the next one shall not try
  exit.status = exit.code == CLD_KILLED ? SIGKILL : 0;

  std::unique_ptr<ActiveRequest> request = std::move(worker.request);
  if (request) {
    std::erase(launching_, w);
    --running_;
  } else {
    --tmpl.ordered;
    ++tmpl.failures;
    tmpl.last_failure = failure.failed()
                            ? tmpl.blueprint.Describe(failure, tmpl.blueprint.plan().worker)
                            : KilledInSetUp(tmpl.blueprint.spec().limits, UsageOf(worker.leaf));
    // Whoever waits longest learns why there is no worker; the others have the next tries.
    if (!tmpl.waiting.empty()) {
      request = std::move(tmpl.waiting.front());
      tmpl.waiting.pop_front();
    } else {
      tmpl.retry_at_ns = NowNs() + RetryDelayNs(tmpl.failures);
    }
  }
  if (request) {
    Outcome outcome = NewOutcome(worker, *request);
    worker.session.facts.requested_ns = request->submitted_ns;
    if (exit.code == CLD_KILLED) outcome.usage = UsageOf(worker.leaf);
    DescribeEnd(tmpl.blueprint, request->request.command, box, exit, worker.session.facts, outcome);
    if (outcome.end != End::kSetupFailed && !worker.session.facts.killed) {
      outcome.end = End::kSetupFailed;
      outcome.message = KilledInSetUp(tmpl.blueprint.spec().limits, outcome.usage);
    }
    FreeWorker(w);
    Answer(std::move(request), std::move(outcome));
    return;
  }
  FreeWorker(w);
}

// Workers outlive their zygote: running ones go on, parked ones can still be launched. Only those
// that it had not finished making have to be made again.
void Reactor::OnZygoteDeath(std::uint32_t k) {
  ZygoteKeeper& keeper = *keepers_[k];
  if (!keeper.alive) return;
  keeper.alive = false;
  keeper.unsent.clear();
  keeper.zygote->Stop();
  Template& tmpl = templates_[keeper.tmpl];
  std::erase(tmpl.keepers, k);
  ++totals_.zygotes_replaced;
  CollectMade(k, /*look_for_dead=*/false);

  std::vector<std::uint32_t> unfinished;
  std::erase_if(keeper.ordered, [&](std::uint32_t w) {
    const Mailbox& box = keeper.zygote->mailbox(workers_[w].slot);
    // kMapped and later needs the zygote no more.
    if (box.pid > 0 && LoadState(box) == WorkerState::kMapped) return false;
    unfinished.push_back(w);
    return true;
  });
  for (const std::uint32_t w : unfinished) {
    Worker& worker = workers_[w];
    if (const int pid = BoxOf(worker).pid; pid > 0) KillAndReap(pid);
    if (worker.request) {
      std::erase(launching_, w);
      --running_;
      for (UniqueFd& output : worker.session.outputs) output.reset();
      if (worker.session.facts.killed) {
        Answer(std::move(worker.request),
               Error(absl::StatusCode::kCancelled, "the request was ended before its turn came"));
      } else if (tmpl.retired) {
        Answer(std::move(worker.request),
               Error(absl::StatusCode::kUnavailable,
                     "the zygote of template {} died, and the template has been replaced",
                     tmpl.options.name));
      } else {
        tmpl.direct.push_front(std::move(worker.request));
      }
    } else {
      --tmpl.ordered;
    }
    FreeWorker(w);
  }
  if (keeper.workers == 0) keeper.zygote.reset();
  if (tmpl.retired) return;
  RestartZygote(keeper.tmpl);
}

// A zygote that stands still in a frozen cgroup is killed, which freezing does not prevent: thawed
// later, it would go on writing to mailboxes that are others' by then. Whoever waits is told why
// there is no other zygote.
void Reactor::EndFrozenZygote(ZygoteKeeper& keeper) {
  if (!keeper.alive || keeper.ordered.empty()) return;
  const Worker& oldest = workers_[keeper.ordered.front()];
  if (NowNs() - oldest.ordered_ns <= kLongLaunchNs || !LeafFrozen(kZygoteLeaf)) return;
  syscall(SYS_pidfd_send_signal, keeper.zygote->pidfd(), SIGKILL, nullptr, 0);
}

// Tries again with every tick. Whoever only a zygote can serve is told meanwhile why there is none.
void Reactor::RestartZygote(std::uint32_t t) {
  Template& tmpl = templates_[t];
  if (tmpl.retired) return;
  const absl::Status started = StartZygote(t);
  if (started.ok()) return;
  to_restart_.push_back(t);
  tmpl.last_failure = std::string(Message(started));
  if (!tmpl.keepers.empty()) return;
  std::vector<std::unique_ptr<ActiveRequest>> stranded;
  for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
    std::erase_if(*queue, [&](std::unique_ptr<ActiveRequest>& request) {
      const bool served = request->request.path == SpawnPath::kCold ||
                          (queue == &tmpl.waiting && tmpl.idle->size() + tmpl.ordered > 0);
      if (!served) stranded.push_back(std::move(request));
      return !served;
    });
  }
  for (std::unique_ptr<ActiveRequest>& request : stranded) {
    Answer(std::move(request),
           Error(started.code(),
                 "the zygote of template {} has died, and the next one cannot be "
                 "started: {}",
                 tmpl.options.name, Message(started)));
  }
}

// A parked worker that was killed from outside tells nobody, but the kernel clears its `alive`;
// where it does not (the memory is not shared), waitid tells.
bool Reactor::BuryIfDead(std::uint32_t w) {
  const Worker& worker = workers_[w];
  const Mailbox& box = BoxOf(worker);
  const bool shared = templates_[worker.tmpl].blueprint.plan().share_memory != 0;
  const bool dead = shared ? __atomic_load_n(&box.alive, __ATOMIC_ACQUIRE) == 0 : HasEnded(box.pid);
  if (!dead) return false;
  ++totals_.lost_workers;
  KillAndReap(box.pid);
  FreeWorker(w);
  return true;
}

void Reactor::SweepParked(Template& tmpl) {
  tmpl.idle->Sweep([&](std::uint32_t w) { return BuryIfDead(w); });
}

}  // namespace brood
