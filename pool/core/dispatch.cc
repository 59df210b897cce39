// SPDX-License-Identifier: Apache-2.0

// The reactor's part that dispatches: launching, watching, reaping, telling.
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "pool/core/reactor.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/stdio.h"

namespace brood {
namespace {

// How often a request is given to another worker when one died before it saw it. Whoever kills a
// few parked workers does not end a request with them; where a limit kills each as it wakes, it is
// told.
constexpr int kMaxAttempts = 16;

}  // namespace

Mailbox& Reactor::BoxOf(const Worker& worker) {
  return keepers_[worker.keeper]->zygote->mailbox(worker.slot);
}

Subject Reactor::SubjectOf(const Worker& worker) {
  return {.blueprint = BlueprintOf(worker),
          .box = worker.cold ? worker.cold->mailbox() : BoxOf(worker),
          .pidfd = worker.cold ? worker.cold->pidfd() : worker.pidfd.get(),
          .parent = resources_.parent ? &*resources_.parent : nullptr,
          .leaf = worker.leaf};
}

const Blueprint& Reactor::BlueprintOf(const Worker& worker) const {
  if (worker.own_blueprint) return *worker.own_blueprint;
  const Template& tmpl = templates_[worker.tmpl];
  return worker.path == SpawnPath::kCold ? *tmpl.cold : tmpl.blueprint;
}

void Reactor::TellStarted(const Worker& worker) {
  const Request& request = worker.request->request;
  if (!request.on_started) return;
  const Mailbox& box =
      worker.cold ? worker.cold->mailbox() : keepers_[worker.keeper]->zygote->mailbox(worker.slot);
  const std::string& leaf = request.leaf.empty() ? worker.leaf : request.leaf;
  request.on_started({worker.request->id, box.pid, leaf, worker.id_first, worker.path,
                      &BlueprintOf(worker).spec()});
}

Token Reactor::TokenOf(Source source, std::uint32_t w) const {
  return {source, workers_[w].generation & 0xffffff, w};
}

// A zygote's workers have /dev/null already; anything else is sent to them.
absl::Status Reactor::GiveStdio(Worker& worker, const Command& command, bool& not_now) {
  if (command.stdio.mode == StdioMode::kNull) return absl::OkStatus();
  BROOD_ASSIGN_OR_RETURN(
      PreparedStdio stdio,
      PrepareStdio(
          command.stdio, launcher_fds_.null.get(), HostIdsOf(BlueprintOf(worker), worker.id_first),
          BlueprintOf(worker).spec().ns(NamespaceKind::kUser).mode == NamespaceMode::kHost));
  BROOD_ASSIGN_OR_RETURN(const bool sent,
                         keepers_[worker.keeper]->zygote->SendFds(worker.slot, stdio.fds));
  if (!sent) {
    not_now = true;
    return absl::OkStatus();
  }
  worker.session.outputs = std::move(stdio.outputs);
  worker.session.CaptureUpTo(command.stdio.capture_bytes);
  worker.terminals = std::move(stdio.terminals);
  return absl::OkStatus();
}

// Gives a parked worker a request, which is taken. False when it cannot be done now.
bool Reactor::Launch(std::uint32_t w, std::unique_ptr<ActiveRequest>& request) {
  Worker& worker = workers_[w];
  Zygote& zygote = *keepers_[worker.keeper]->zygote;
  const Command& command = request->request.command;
  if (!zygote.WriteLaunch(worker.slot, LaunchLayout(command))) return false;
  bool not_now = false;
  absl::Status ready = GiveStdio(worker, command, not_now);
  if (not_now) {
    zygote.ReleaseLaunch(worker.slot);
    return false;
  }
  worker.session.facts = WorkerFacts{};
  worker.session.facts.requested_ns = request->submitted_ns;
  worker.phase = WorkerPhase::kRunning;
  worker.request = std::move(request);
  ++running_;
  Launching(w);
  templates_[worker.tmpl].last_launch_ns = NowNs();
  // Before it is woken it is certainly there, and after its exec perhaps not (spawn/launch/reap.h).
  if (ready.ok()) {
    absl::StatusOr<UniqueFd> pidfd = OpenChild(BoxOf(worker).pid);
    ready = pidfd.status();
    if (pidfd.ok()) worker.pidfd = *std::move(pidfd);
  }
  // What is left to do here runs beside its exec.
  if (ready.ok()) {
    zygote.Wake(worker.slot, WorkerState::kLaunch);
    ready = WatchWorker(w);
  }
  if (ready.ok()) {
    TellStarted(worker);
  } else {
    Abandon(w, ready);
  }
  return true;
}

// Takes over a worker that a caller's thread has launched.
void Reactor::Adopt(std::unique_ptr<ActiveRequest> request, Template& tmpl) {
  const std::uint32_t w = *request->launched;
  Worker& worker = workers_[w];
  tmpl.idle->Arrived();
  tmpl.last_launch_ns = NowNs();
  worker.session.facts.requested_ns = request->submitted_ns;
  worker.phase = WorkerPhase::kRunning;
  worker.request = std::move(request);
  ++running_;
  Launching(w);
  absl::Status watched = worker.request->pidfd.status();
  if (watched.ok()) {
    worker.pidfd = *std::move(worker.request->pidfd);
    watched = WatchWorker(w);
  }
  if (!watched.ok()) {
    Abandon(w, watched);
  } else {
    TellStarted(worker);
  }
}

// Frees a worker that its caller has launched and reaped.
void Reactor::TakeBack(Inbox::Used used) {
  Worker& worker = workers_[used.worker];
  templates_[worker.tmpl].idle->Arrived();
  templates_[worker.tmpl].last_launch_ns = NowNs();
  ++totals_.served[static_cast<std::size_t>(SpawnPath::kParked)];
  worker.kept = std::move(used.kept);
  worker.session.leaf_spoilt |= used.leaf_spoilt;
  FreeWorker(used.worker);
}

// Kills a worker of a zygote, and reaps it if nobody has.
void Reactor::EndUnseen(const Worker& worker) {
  if (worker.pidfd.valid()) {
    KillAndReap(worker.pidfd);
  } else if (const int pid = BoxOf(worker).pid; pid > 0) {
    KillAndReap(pid);
  }
}

// Ends a worker of a zygote that cannot be watched.
void Reactor::Abandon(std::uint32_t w, const absl::Status& why) {
  Worker& worker = workers_[w];
  if (absl::IsNotFound(why)) {  // it has ended, and only how is not known
    keepers_[worker.keeper]->zygote->ReleaseLaunch(worker.slot);
    (void)worker.session.Ended(SubjectOf(worker), why);
    for (UniqueFd& output : worker.session.outputs) output.reset();
    return Finish(w);
  }
  std::erase(launching_, w);
  --running_;
  EndUnseen(worker);
  std::unique_ptr<ActiveRequest> failed = std::move(worker.request);
  FreeWorker(w);
  Answer(std::move(failed), why);
}

// Waits for the worker's end, its output and its deadline.
absl::Status Reactor::WatchWorker(std::uint32_t w) {
  Worker& worker = workers_[w];
  const int pidfd = SubjectOf(worker).pidfd;
  if (!worker.cold) {
    worker.kept = KeepNamespaces(templates_[worker.tmpl].options.spec, pidfd,
                                 launcher_fds_.proc.get(), BoxOf(worker).pid);
  }
  BROOD_RETURN_IF_ERROR(ring_->AwaitReadable(pidfd, TokenOf(Source::kWorkerExit, w)));
  for (std::size_t i = 0; i < 2; ++i) {
    if (!worker.session.outputs[i].valid()) continue;
    const Source source = i == 0 ? Source::kWorkerOut : Source::kWorkerErr;
    BROOD_RETURN_IF_ERROR(
        ring_->AwaitReadable(worker.session.outputs[i].get(), TokenOf(source, w)));
  }
  if (const auto& timeout = worker.request->request.command.timeout) {
    deadlines_.emplace(NowNs() + timeout->count(), TokenOf(Source::kWorkerExit, w));
  }
  return absl::OkStatus();
}

bool Reactor::StartCold(std::uint32_t t, std::unique_ptr<ActiveRequest>& request) {
  Template& tmpl = templates_[t];
  const auto refuse = [&](absl::Status status) {
    Answer(std::move(request), std::move(status));
    return true;
  };
  const bool own = request->request.spec.has_value();
  std::optional<Blueprint> own_blueprint;
  if (own) {
    absl::StatusOr<Blueprint> made = Blueprint::Make(*request->request.spec, PlanKind::kCold);
    if (!made.ok()) return refuse(made.status());
    own_blueprint = *std::move(made);
  } else if (!tmpl.cold) {
    absl::StatusOr<Blueprint> blueprint =
        Blueprint::Make(tmpl.options.spec, PlanKind::kCold, tmpl.options.fault);
    if (!blueprint.ok()) return refuse(blueprint.status());
    tmpl.cold.emplace(*std::move(blueprint));
  }
  const std::uint32_t w = TakeWorkerRecord();
  Worker& worker = workers_[w];
  worker.tmpl = t;
  worker.path = SpawnPath::kCold;
  worker.own_blueprint = std::move(own_blueprint);
  const absl::Status equipped = own ? EquipOwn(worker, request->request) : Equip(worker, tmpl);
  if (!equipped.ok()) {
    worker.Reset();
    free_workers_.push_back(w);
    return refuse(equipped);
  }
  Birthplace place;
  place.parent_fd = resources_.parent ? resources_.parent->fd() : -1;
  place.leaf = request->request.leaf.empty() ? worker.leaf : request->request.leaf;
  place.id_first = worker.id_first;
  absl::StatusOr<ColdWorker> cold =
      ColdWorker::Start(BlueprintOf(worker), request->request.command, place, launcher_fds_);
  if (!cold.ok()) {
    DropWorker(w);
    return refuse(cold.status());
  }
  ++tmpl.alive;
  worker.cold.emplace(*std::move(cold));
  worker.session.outputs = std::move(worker.cold->outputs());
  worker.session.CaptureUpTo(request->request.command.stdio.capture_bytes);
  worker.session.facts.requested_ns = request->submitted_ns;
  worker.phase = WorkerPhase::kRunning;
  worker.request = std::move(request);
  ++running_;
  Launching(w);
  if (!worker.cold->started()) {
    worker.session.EndedUnseen();
    for (UniqueFd& output : worker.session.outputs) output.reset();
    Finish(w);
    return true;
  }
  if (const absl::Status watched = WatchWorker(w); !watched.ok()) {
    std::unique_ptr<ActiveRequest> failed = std::move(worker.request);
    std::erase(launching_, w);
    --running_;
    FreeWorker(w);
    Answer(std::move(failed), watched);
  } else {
    TellStarted(worker);
  }
  return true;
}

void Reactor::Launching(std::uint32_t w) {
  workers_[w].launching_since_ns = NowNs();
  launching_.push_back(w);
}

bool Reactor::HasExeced(const Worker& worker) {
  const Mailbox& box = SubjectOf(worker).box;
  return box.pid > 0 && HasLetGo(box);
}

// A worker that has exec'd or died is not launching, and the memory of its launch is free for
// others. One that takes unusually long (an exec can wait for a file) must not keep the others
// waiting.
void Reactor::ForgetLaunched() {
  const std::int64_t now = launching_.empty() ? 0 : NowNs();
  std::erase_if(launching_, [&](std::uint32_t w) {
    Worker& worker = workers_[w];
    if (!HasExeced(worker)) {
      if (now - worker.launching_since_ns <= kLongLaunchNs) return false;
      if (worker.phase == WorkerPhase::kRunning && !worker.session.exit) {
        (void)worker.session.EndIfFrozen(SubjectOf(worker));
      }
      return true;
    }
    if (!worker.cold) keepers_[worker.keeper]->zygote->ReleaseLaunch(worker.slot);
    return true;
  });
}

LeafUsage Reactor::UsageOf(const std::string& leaf) const {
  return resources_.parent && !leaf.empty() ? resources_.parent->ReadLeafUsage(leaf) : LeafUsage{};
}

bool Reactor::LeafFrozen(const std::string& leaf) const {
  return resources_.parent && !leaf.empty() && resources_.parent->LeafFrozen(leaf).value_or(false);
}

void Reactor::OnWorkerExit(std::uint32_t w) {
  Worker& worker = workers_[w];
  const UniqueFd pidfd = worker.cold ? worker.cold->GiveUp() : std::move(worker.pidfd);
  const absl::StatusOr<Exit> exit = AskHowItEnded(pidfd.get());
  // After its outcome has been told.
  const absl::Cleanup reap = [&] { (void)Reap(pidfd.get()); };
  // Descriptors it never took would keep its output open.
  if (!worker.cold) keepers_[worker.keeper]->zygote->ReleaseLaunch(worker.slot);
  // Otherwise the pipes report their end.
  if (worker.session.Ended(SubjectOf(worker), exit)) Finish(w);
}

void Reactor::OnOutput(std::uint32_t w, std::size_t stream) {
  Worker& worker = workers_[w];
  if (!worker.session.outputs[stream].valid()) return;
  if (worker.session.ReadOutput(stream)) {
    (void)ring_->AwaitAgain(worker.session.outputs[stream].get(), POLLIN,
                            TokenOf(stream == 0 ? Source::kWorkerOut : Source::kWorkerErr, w));
    return;
  }
  if (worker.session.exit && !worker.session.OutputOpen()) Finish(w);
}

Outcome Reactor::NewOutcome(const Worker& worker, const ActiveRequest& request) const {
  Outcome outcome;
  outcome.template_name = templates_[worker.tmpl].options.name;
  outcome.spawn_path = worker.path;
  outcome.fallbacks = resources_.fallbacks;
  outcome.fallbacks.insert(outcome.fallbacks.end(), request.fallbacks.begin(),
                           request.fallbacks.end());
  return outcome;
}

void Reactor::Finish(std::uint32_t w) {
  Worker& worker = workers_[w];
  Template& tmpl = templates_[worker.tmpl];
  std::erase(launching_, w);
  --running_;
  std::unique_ptr<ActiveRequest> request = std::move(worker.request);

  // Killed while parked, it never saw the request: somebody else may have it.
  const Subject subject = SubjectOf(worker);
  const bool unseen = worker.path == SpawnPath::kParked && worker.session.NeverSeen(subject);
  if (unseen && ++request->attempts < kMaxAttempts) {
    ++totals_.lost_workers;
    FreeWorker(w);
    request->launched.reset();
    tmpl.waiting.push_front(std::move(request));
    return;
  }

  Outcome outcome = NewOutcome(worker, *request);
  worker.session.Tell(subject, request->request.command, /*usage_wanted=*/false, outcome);
  FreeWorker(w);
  Answer(std::move(request), std::move(outcome));
}

}  // namespace brood
