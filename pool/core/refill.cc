// SPDX-License-Identifier: Apache-2.0

#include "pool/core/refill.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"
#include "spawn/limits/advice.h"
#include "spawn/limits/limits_met.h"

namespace brood {
namespace {

// Orders a zygote may have at once. Enough to keep it busy between two looks of ours, few enough
// that a request of its own does not stand behind a long queue.
constexpr std::size_t kOrdersAhead = 16;

constexpr std::size_t kParkTimesKept = 4096;

// No launch for so long is a quiet moment, fit for refilling.
constexpr std::int64_t kQuietNs = 20'000'000;

// Slots that a burst has left idle are given up after so long, but for those that are kept ready.
constexpr std::int64_t kIdleSlotNs = 30'000'000'000;

// Why a worker was killed that had not come as far as its command.
std::string KilledInSetUp(const Limits& limits, const LeafUsage& usage) {
  Outcome outcome;
  outcome.end = End::kOom;
  outcome.usage = usage;
  std::string sentence = "the worker was killed while it was being set up";
  for (const std::string& met : LimitsMet(limits, outcome)) sentence += "; " + met;
  return sentence;
}

// Workers that are to be parked. A pool that parks nothing ahead still serves those who wait for a
// parked worker.
std::size_t Wanted(const Template& tmpl) {
  return std::max<std::size_t>(tmpl.options.parked, tmpl.waiting.size());
}

// Slots that wait for a worker where no worker is parked in one.
std::size_t SlotsKeptReady(const Template& tmpl) {
  const bool has_slots =
      !tmpl.retired && tmpl.options.parked == 0 && tmpl.blueprint.plan().slot_flags != 0;
  return has_slots ? std::min<std::size_t>(2, tmpl.options.max_workers) : 0;
}

std::int64_t RetryDelayNs(int failures) {
  return std::int64_t{100'000'000} << std::min(failures - 1, 5);
}

}  // namespace

absl::Status Refill::StartZygote(std::uint32_t t) {
  Template& tmpl = pool_.templates[t];
  // It would never say that it is ready. Those that leave the leaf make it look as if it were not.
  slots_.ReapCloners();
  if (pool_.LeafFrozen(kZygoteLeaf)) {
    return Error(absl::StatusCode::kFailedPrecondition, "starting a zygote of template {}: {}: {}",
                 tmpl.options.name, ErrnoText(EBUSY), Advice(Step::kBegin, EBUSY));
  }
  Zygote::Options options;
  options.slots = (tmpl.options.max_workers + tmpl.options.zygotes - 1) / tmpl.options.zygotes;
  options.parent_fd = pool_.resources.parent ? pool_.resources.parent->fd() : -1;
  options.cgroup_fd = pool_.zygote_leaf.get();
  BROOD_ASSIGN_OR_RETURN(std::unique_ptr<Zygote> zygote, Zygote::Start(tmpl.blueprint, options));
  const auto place = static_cast<std::uint32_t>(pool_.keepers.size());
  auto keeper = std::make_unique<ZygoteKeeper>();
  keeper->tmpl = t;
  keeper->slots.resize(options.slots);
  keeper->first_slot = slot_numbers_;
  slot_numbers_ += options.slots;
  Ring& ring = *pool_.ring;
  BROOD_RETURN_IF_ERROR(ring.AwaitReadable(zygote->notify_fd(), {Source::kZygoteNotice, 0, place}));
  BROOD_RETURN_IF_ERROR(ring.AwaitReadable(zygote->pidfd(), {Source::kZygoteDeath, 0, place}));
  keeper->zygote = std::move(zygote);
  pool_.keepers.push_back(std::move(keeper));
  tmpl.keepers.push_back(place);
  return absl::OkStatus();
}

// The zygote with the fewest orders that has room for one more. Null: none.
ZygoteKeeper* Refill::Choose(const Template& tmpl, std::uint32_t& index) {
  ZygoteKeeper* best = nullptr;
  for (const std::uint32_t k : tmpl.keepers) {
    ZygoteKeeper& keeper = *pool_.keepers[k];
    if (keeper.full() || keeper.ordered.size() >= kOrdersAhead) continue;
    if (best != nullptr && keeper.ordered.size() >= best->ordered.size()) continue;
    best = &keeper;
    index = k;
  }
  return best;
}

// Puts a request into the mailbox of its worker. False when it cannot be done now; the request is
// gone when it had to be answered.
bool Refill::WriteRequest(Worker& worker, std::unique_ptr<ActiveRequest>& request) {
  const Command& command = request->request.command;
  if (!pool_.ZygoteOf(worker).WriteLaunch(worker.slot, LaunchLayout(command))) return false;
  bool not_now = false;
  if (const absl::Status given = supervisor_.GiveStdio(worker, command, not_now); !given.ok()) {
    pool_.Answer(std::move(request), given);
    return false;
  }
  return !not_now;
}

bool Refill::Order(std::uint32_t t, std::unique_ptr<ActiveRequest>& request) {
  Template& tmpl = pool_.templates[t];
  if (tmpl.alive >= tmpl.options.max_workers) return false;
  std::uint32_t place = 0;
  ZygoteKeeper* const keeper = Choose(tmpl, place);
  if (keeper == nullptr) return false;

  const std::uint32_t w = records_.Take();
  Worker& worker = pool_.workers[w];
  worker.tmpl = t;
  worker.keeper = place;
  // One that nobody wants is made for its slot alone.
  worker.slot = Slots::Take(*keeper, !request && tmpl.idle->size() + tmpl.ordered >= Wanted(tmpl));
  worker.path = request ? SpawnPath::kZygote : SpawnPath::kParked;
  const bool wants_ids = tmpl.options.spec.is_new(NamespaceKind::kUser) && ThisMachine().id_ranges;
  const auto none_left = [&] { return wants_ids && pool_.resources.ids.all_taken(); };
  absl::Status equipped = records_.Equip(worker, tmpl);
  if (!equipped.ok() && none_left()) {  // idle slots may have some
    for (const auto& each : pool_.keepers) slots_.DropIdle(*each, 0);
    equipped = records_.Equip(worker, tmpl);
  }
  if (!equipped.ok()) {
    tmpl.last_failure = std::string(Message(equipped));
    slots_.Return(*keeper, worker.slot);
    records_.Drop(w);
    // Ids come back when some worker of ours ends. Those of others, and a cgroup that cannot be
    // made, are not worth waiting for.
    if (!request || none_left()) return false;
    pool_.Answer(std::move(request), equipped);
    return true;
  }
  Mailbox& box = keeper->zygote->mailbox(worker.slot);
  if (worker.leaf.size() < sizeof(box.leaf)) {
    std::memcpy(box.leaf, worker.leaf.c_str(), worker.leaf.size() + 1);
  }
  SetIdMap(tmpl.blueprint, worker.id_first, box);
  box.slot_number = keeper->first_slot + worker.slot;
  if (request && !WriteRequest(worker, request)) {
    keeper->zygote->ReleaseLaunch(worker.slot);
    box = Mailbox{};
    slots_.Return(*keeper, worker.slot);
    records_.Drop(w);
    return request == nullptr;
  }
  ++keeper->workers;
  ++tmpl.alive;
  worker.phase = WorkerPhase::kOrdered;
  worker.ordered_ns = NowNs();
  StoreState(box, WorkerState::kOrdered);
  keeper->ordered.push_back(w);
  if (request && request->request.fresh) slots_.EndCloner(*keeper, worker.slot, /*idle=*/true);
  SendFor(*keeper, worker.slot);
  if (request) {
    tmpl.last_launch_ns = worker.ordered_ns;
    supervisor_.Begin(w, std::move(request));
    SendOrders(*keeper);
  } else {
    ++tmpl.ordered;
  }
  return true;
}

// With the next SendOrders.
void Refill::SendFor(ZygoteKeeper& keeper, std::uint32_t slot) {
  keeper.unsent.push_back(keeper.slots[slot].cloner != 0 ? slot : slot | kNewSlot);
}

void Refill::SendOrders(ZygoteKeeper& keeper) {
  while (!keeper.unsent.empty()) {
    const std::size_t count = std::min(keeper.unsent.size(), kMaxOrders);
    // A full queue empties when the zygote has worked on; a dead zygote is noticed by its pidfd.
    if (!keeper.zygote->Order({keeper.unsent.data(), count}).ok()) return;
    keeper.unsent.erase(keeper.unsent.begin(),
                        keeper.unsent.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

// How many workers have to be ordered. Where none are parked, a few are made for their slots alone.
std::size_t Refill::Lacking(const Template& tmpl) const {
  const std::size_t wanted = Wanted(tmpl);
  const std::size_t coming = tmpl.idle->size() + tmpl.ordered;
  if (coming < wanted) return wanted - coming;
  std::size_t slots = tmpl.ordered;
  for (const std::uint32_t k : tmpl.keepers) slots += pool_.keepers[k]->kept_slots.size();
  const std::size_t ready = SlotsKeptReady(tmpl);
  return slots < ready ? ready - slots : 0;
}

void Refill::Fill(std::uint32_t t) {
  Template& tmpl = pool_.templates[t];
  if (tmpl.retry_at_ns != 0 && NowNs() < tmpl.retry_at_ns) return;
  tmpl.retry_at_ns = 0;
  const std::size_t lacking = Lacking(tmpl);
  if (lacking == 0) {
    tmpl.filling = false;
    return;
  }
  // Making a worker slows the launch that runs beside it, so it waits for a quiet moment while
  // there are plenty.
  const bool many = tmpl.options.parked > 0 && lacking >= (tmpl.options.parked + 1) / 2;
  tmpl.filling =
      tmpl.filling || !tmpl.waiting.empty() || many || NowNs() >= tmpl.last_launch_ns + kQuietNs;
  if (!tmpl.filling) return;
  std::unique_ptr<ActiveRequest> nobody;
  while (Lacking(tmpl) > 0 && Order(t, nobody)) {
  }
  for (const std::uint32_t k : tmpl.keepers) SendOrders(*pool_.keepers[k]);
}

std::optional<std::int64_t> Refill::NextFillNs(const Template& tmpl) const {
  // Nothing is made before a retry is due: what that is for must not wake us.
  if (tmpl.retry_at_ns != 0) return tmpl.retry_at_ns;
  if (tmpl.filling || Lacking(tmpl) == 0) return std::nullopt;
  return tmpl.last_launch_ns + kQuietNs;
}

void Refill::OnZygoteNotice(std::uint32_t k) {
  ZygoteKeeper& keeper = *pool_.keepers[k];
  if (!keeper.zygote) return;
  // Emptied before the look: whatever happens during it makes the eventfd readable again.
  std::uint64_t count = 0;
  (void)!read(keeper.zygote->notify_fd(), &count, sizeof(count));
  (void)pool_.ring->AwaitAgain(keeper.zygote->notify_fd(), POLLIN, {Source::kZygoteNotice, 0, k});
  CollectMade(k, /*look_for_dead=*/false);
}

// Looks which of the ordered workers have come to something; with `look_for_dead`, a system call
// for each, also which have been killed meanwhile.
void Refill::CollectMade(std::uint32_t k, bool look_for_dead) {
  ZygoteKeeper& keeper = *pool_.keepers[k];
  if (!keeper.zygote) return;
  std::vector<std::uint32_t> made;
  std::vector<std::uint32_t> not_made;
  std::vector<std::uint32_t> unclean;
  std::erase_if(keeper.ordered, [&](std::uint32_t w) {
    Worker& worker = pool_.workers[w];
    const Mailbox& box = pool_.BoxOf(worker);
    switch (LoadState(box)) {
      case WorkerState::kParked:
      case WorkerState::kLaunch:
        made.push_back(w);
        return true;
      case WorkerState::kFailed:
      case WorkerState::kAbort:
        not_made.push_back(w);
        return true;
      case WorkerState::kUnclean:
        unclean.push_back(w);
        return true;
      default:
        // Killed from outside while it set itself up, or born into a frozen cgroup: nobody tells.
        if (!look_for_dead) return false;
        if ((LoadState(box) < WorkerState::kMapped || box.pid <= 0) &&
            slots_.HasLostCloner(worker)) {
          not_made.push_back(w);
          return true;
        }
        if (box.pid <= 0) return false;
        if (!HasEnded(box.pid)) {
          worker.session.facts.frozen =
              NowNs() - box.birth_ns > kLongLaunchNs && pool_.LeafFrozen(worker.leaf);
          if (!worker.session.facts.frozen) return false;
        }
        not_made.push_back(w);
        return true;
    }
  });
  for (const std::uint32_t w : made) OnMade(w);
  for (const std::uint32_t w : not_made) OnNotMade(w);
  for (const std::uint32_t w : unclean) OnUnclean(w);
}

// The worker is made in new namespaces, with the same ids.
void Refill::OnUnclean(std::uint32_t w) {
  const Worker& worker = pool_.workers[w];
  ZygoteKeeper& keeper = *pool_.keepers[worker.keeper];
  Mailbox& box = pool_.BoxOf(worker);
  slots_.CountGivenUp(box);
  box.slot_fault = 0;
  box.passed_on = 0;
  slots_.EndCloner(keeper, worker.slot, /*idle=*/true);
  StoreState(box, WorkerState::kOrdered);
  keeper.ordered.push_back(w);
  SendFor(keeper, worker.slot);
  SendOrders(keeper);
}

void Refill::OnMade(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  Template& tmpl = pool_.TemplateOf(worker);
  Zygote& zygote = pool_.ZygoteOf(worker);
  const Mailbox& box = pool_.BoxOf(worker);
  slots_.Count(worker, /*finished=*/true);
  tmpl.failures = 0;
  tmpl.last_failure.clear();
  if (worker.request) {
    worker.pidfd = zygote.TakePidfd(worker.slot, box.pid);
    absl::Status there;
    if (!worker.pidfd.valid()) {  // no descriptor was free for it
      absl::StatusOr<UniqueFd> pidfd = OpenChild(box.pid);
      there = pidfd.status();
      if (pidfd.ok()) worker.pidfd = *std::move(pidfd);
    }
    return supervisor_.Watch(w, there);
  }
  --tmpl.ordered;
  // One too many was made for its slot.
  const bool wanted = tmpl.idle->size() < Wanted(tmpl);
  if (tmpl.retired || !wanted) {
    KillAndReap(box.pid);
    records_.Free(w);
    return;
  }
  worker.phase = WorkerPhase::kParked;
  tmpl.idle->Put({w, &zygote, worker.slot});
  ++pool_.totals.parked_total;
  std::vector<double>& park_us = pool_.totals.park_us;
  const double took_us = static_cast<double>(box.parked_ns - box.birth_ns) / 1000;
  if (park_us.size() < kParkTimesKept) {
    park_us.push_back(took_us);
  } else {
    park_us[park_next_++ % kParkTimesKept] = took_us;
  }
}

void Refill::OnNotMade(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  Template& tmpl = pool_.TemplateOf(worker);
  Session& session = worker.session;
  const Mailbox& box = pool_.BoxOf(worker);
  slots_.Count(worker, /*finished=*/box.parked_ns != 0);  // it may be the command that is not there
  Exit exit;
  if (box.pid > 0) KillAndReap(box.pid);
  exit.reaped_ns = NowNs();
  exit.code = CLD_EXITED;
  const Failure failure = FailureOf(box, session.facts);
  if (!box.failure.failed() && !session.facts.timed_out) exit.code = CLD_KILLED;
  session.leaf_spoilt |= exit.code == CLD_KILLED;  // or perhaps; the next one shall not try
  exit.status = exit.code == CLD_KILLED ? SIGKILL : 0;

  std::unique_ptr<ActiveRequest> request;
  if (worker.request) {
    request = supervisor_.TakeRequest(w);
  } else {
    --tmpl.ordered;
    ++tmpl.failures;
    tmpl.last_failure =
        failure.failed() ? tmpl.blueprint.Describe(failure, tmpl.blueprint.plan().worker)
                         : KilledInSetUp(tmpl.blueprint.spec().limits, pool_.UsageOf(worker.leaf));
    // Whoever waits longest learns why there is no worker; the others have the next tries.
    if (!tmpl.waiting.empty()) {
      request = std::move(tmpl.waiting.front());
      tmpl.waiting.pop_front();
    } else {
      tmpl.retry_at_ns = NowNs() + RetryDelayNs(tmpl.failures);
    }
  }
  if (!request) return records_.Free(w);
  Outcome outcome = supervisor_.NewOutcome(worker, *request);
  session.facts.requested_ns = request->submitted_ns;
  if (exit.code == CLD_KILLED) outcome.usage = pool_.UsageOf(worker.leaf);
  DescribeEnd(tmpl.blueprint, request->request.command, box, exit, session.facts, outcome);
  if (outcome.end != End::kSetupFailed && !session.facts.killed) {
    outcome.end = End::kSetupFailed;
    outcome.message = KilledInSetUp(tmpl.blueprint.spec().limits, outcome.usage);
  }
  records_.Free(w);
  pool_.Answer(std::move(request), std::move(outcome));
}

// Workers outlive their zygote: running ones go on, parked ones can still be launched. Only those
// that it had not finished making have to be made again.
void Refill::OnZygoteDeath(std::uint32_t k) {
  ZygoteKeeper& keeper = *pool_.keepers[k];
  if (!keeper.alive) return;
  keeper.alive = false;
  keeper.unsent.clear();
  keeper.zygote->Stop();
  Template& tmpl = pool_.templates[keeper.tmpl];
  std::erase(tmpl.keepers, k);
  ++pool_.totals.zygotes_replaced;
  CollectMade(k, /*look_for_dead=*/false);

  // Cloners go on without their zygote: before a mailbox is anybody's, its must have ended. What
  // they have finished meanwhile runs, and must not be made again.
  for (const std::uint32_t w : keeper.ordered) slots_.NoteCloner(pool_.workers[w]);
  for (std::uint32_t slot = 0; slot < keeper.used_slots; ++slot) {
    slots_.EndCloner(keeper, slot, /*idle=*/true);
  }
  slots_.ReapCloners();
  CollectMade(k, /*look_for_dead=*/false);
  keeper.unsent.clear();
  std::vector<std::uint32_t> unfinished;
  std::erase_if(keeper.ordered, [&](std::uint32_t w) {
    const Mailbox& box = pool_.BoxOf(pool_.workers[w]);
    // kMapped and later needs the zygote no more.
    if (box.pid > 0 && LoadState(box) == WorkerState::kMapped) return false;
    unfinished.push_back(w);
    return true;
  });
  for (const std::uint32_t w : unfinished) OrderAgain(w);
  if (keeper.workers == 0) records_.EndKeeper(keeper);
  if (!tmpl.retired) RestartZygote(keeper.tmpl);
}

// Ends a worker whose zygote died while it made it. Its request gets another one.
void Refill::OrderAgain(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  Template& tmpl = pool_.TemplateOf(worker);
  if (const int pid = pool_.BoxOf(worker).pid; pid > 0) KillAndReap(pid);
  if (!worker.request) {
    --tmpl.ordered;
    return records_.Free(w);
  }
  std::unique_ptr<ActiveRequest> request = supervisor_.TakeRequest(w);
  const bool killed = worker.session.facts.killed;
  records_.Free(w);
  if (killed) {
    pool_.Answer(std::move(request),
                 Error(absl::StatusCode::kCancelled, "the request was ended before its turn came"));
  } else if (tmpl.retired) {
    pool_.Answer(std::move(request),
                 Error(absl::StatusCode::kUnavailable,
                       "the zygote of template {} died, and the template has been replaced",
                       tmpl.options.name));
  } else {
    tmpl.direct.push_front(std::move(request));
  }
}

// A zygote that stands still in a frozen cgroup is killed, which freezing does not prevent: thawed
// later, it would go on writing to mailboxes that are others' by then. Whoever waits is told why
// there is no other zygote.
void Refill::EndFrozenZygote(ZygoteKeeper& keeper) {
  if (!keeper.alive || keeper.ordered.empty()) return;
  const Worker& oldest = pool_.workers[keeper.ordered.front()];
  if (NowNs() - oldest.ordered_ns <= kLongLaunchNs || !pool_.LeafFrozen(kZygoteLeaf)) return;
  syscall(SYS_pidfd_send_signal, keeper.zygote->pidfd(), SIGKILL, nullptr, 0);
}

// Tries again with every tick. Whoever only a zygote can serve is told meanwhile why there is none.
void Refill::RestartZygote(std::uint32_t t) {
  Template& tmpl = pool_.templates[t];
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
    pool_.Answer(std::move(request),
                 Error(started.code(),
                       "the zygote of template {} has died, and the next one cannot be "
                       "started: {}",
                       tmpl.options.name, Message(started)));
  }
}

// A parked worker that was killed from outside tells nobody, but the kernel clears its `alive`;
// where it does not (the memory is not shared), waitid tells.
bool Refill::BuryIfDead(std::uint32_t w) {
  const Worker& worker = pool_.workers[w];
  const Mailbox& box = pool_.BoxOf(worker);
  const bool shared = pool_.TemplateOf(worker).blueprint.plan().share_memory != 0;
  const bool dead = shared ? __atomic_load_n(&box.alive, __ATOMIC_ACQUIRE) == 0 : HasEnded(box.pid);
  if (!dead) return false;
  ++pool_.totals.lost_workers;
  KillAndReap(box.pid);
  records_.Free(w);
  return true;
}

void Refill::Tick() {
  for (const std::uint32_t tmpl : std::exchange(to_restart_, {})) RestartZygote(tmpl);
  for (std::uint32_t k = 0; k < pool_.keepers.size(); ++k) {
    if (pool_.keepers[k]->alive) SendOrders(*pool_.keepers[k]);
    if (pool_.keepers[k]->ordered.empty()) continue;
    EndFrozenZygote(*pool_.keepers[k]);
    CollectMade(k, /*look_for_dead=*/true);
  }
  for (Template& tmpl : pool_.templates) {
    const bool quiet = NowNs() - tmpl.last_launch_ns > kIdleSlotNs;
    if (quiet && tmpl.blueprint.plan().slot_flags != 0 && tmpl.waiting.empty()) {
      for (const std::uint32_t k : tmpl.keepers) {
        slots_.DropIdle(*pool_.keepers[k], SlotsKeptReady(tmpl));
      }
    }
    tmpl.idle->Sweep([&](std::uint32_t w) { return BuryIfDead(w); });
  }
}

}  // namespace brood
