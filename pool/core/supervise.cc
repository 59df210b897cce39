// SPDX-License-Identifier: Apache-2.0

#include "pool/core/supervise.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/keep_namespaces.h"
#include "spawn/launch/reap.h"
#include "spawn/launch/stdio.h"

namespace brood {
namespace {

// How often a request is given to another worker when one died before it saw it. Whoever kills a
// few parked workers does not end a request with them; where a limit kills each as it wakes, it is
// told.
constexpr int kMaxAttempts = 16;

}  // namespace

// A zygote's workers have /dev/null already; anything else is sent to them.
absl::Status Supervisor::GiveStdio(Worker& worker, const Command& command, bool& not_now) {
  if (command.stdio.mode == StdioMode::kNull) return absl::OkStatus();
  const Blueprint& blueprint = pool_.BlueprintOf(worker);
  BROOD_ASSIGN_OR_RETURN(
      PreparedStdio stdio,
      PrepareStdio(command.stdio, pool_.launcher_fds.null.get(),
                   HostIdsOf(blueprint, worker.id_first),
                   blueprint.spec().ns(NamespaceKind::kUser).mode == NamespaceMode::kHost));
  BROOD_ASSIGN_OR_RETURN(const bool sent, pool_.ZygoteOf(worker).SendFds(worker.slot, stdio.fds));
  if (!sent) {
    not_now = true;
    return absl::OkStatus();
  }
  worker.session.outputs = std::move(stdio.outputs);
  worker.session.CaptureUpTo(command.stdio.capture_bytes);
  worker.terminals = std::move(stdio.terminals);
  return absl::OkStatus();
}

void Supervisor::Begin(std::uint32_t w, std::unique_ptr<ActiveRequest> request) {
  Worker& worker = pool_.workers[w];
  worker.session.facts.requested_ns = request->submitted_ns;
  worker.request = std::move(request);
  worker.launching_since_ns = NowNs();
  launching_.push_back(w);
  ++running_;
}

std::unique_ptr<ActiveRequest> Supervisor::TakeRequest(std::uint32_t w) {
  std::erase(launching_, w);
  --running_;
  return std::move(pool_.workers[w].request);
}

absl::Status Supervisor::AwaitEvents(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  const int pidfd = pool_.SubjectOf(worker).pidfd;
  if (!worker.cold) {
    worker.kept = KeepNamespaces(pool_.BlueprintOf(worker).plan(), pidfd,
                                 pool_.launcher_fds.proc.get(), pool_.BoxOf(worker));
  }
  BROOD_RETURN_IF_ERROR(pool_.ring->AwaitReadable(pidfd, pool_.TokenOf(Source::kWorkerExit, w)));
  for (std::size_t i = 0; i < 2; ++i) {
    if (!worker.session.outputs[i].valid()) continue;
    const Source source = i == 0 ? Source::kWorkerOut : Source::kWorkerErr;
    BROOD_RETURN_IF_ERROR(
        pool_.ring->AwaitReadable(worker.session.outputs[i].get(), pool_.TokenOf(source, w)));
  }
  if (const auto& timeout = worker.request->request.command.timeout) {
    deadlines_.emplace(NowNs() + timeout->count(), pool_.TokenOf(Source::kWorkerExit, w));
  }
  return absl::OkStatus();
}

void Supervisor::Watch(std::uint32_t w, absl::Status ready) {
  Worker& worker = pool_.workers[w];
  worker.phase = WorkerPhase::kRunning;
  if (ready.ok()) ready = AwaitEvents(w);
  if (!ready.ok()) return Abandon(w, ready);
  TellStarted(worker);
  // Asked for before there was anybody to kill.
  if (worker.session.facts.killed || pool_.kill_all) worker.session.Kill(pool_.SubjectOf(worker));
}

void Supervisor::TellStarted(const Worker& worker) const {
  const Request& request = worker.request->request;
  if (!request.on_started) return;
  const Subject subject = pool_.SubjectOf(worker);
  const std::string& leaf = request.leaf.empty() ? worker.leaf : request.leaf;
  request.on_started({worker.request->id, subject.box.pid, leaf, worker.id_first, worker.path,
                      SlotOf(subject.blueprint, subject.box), &subject.blueprint.spec()});
}

void Supervisor::NeverStarted(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  worker.phase = WorkerPhase::kRunning;
  worker.session.EndedUnseen();
  for (UniqueFd& output : worker.session.outputs) output.reset();
  Finish(w);
}

void Supervisor::EndUnseen(const Worker& worker) {
  if (!worker.cold) {
    records_.slots().NoteCloner(worker);
    records_.slots().EndCloner(*pool_.keepers[worker.keeper], worker.slot, /*idle=*/false);
  }
  if (worker.pidfd.valid()) {
    KillAndReap(worker.pidfd);
  } else if (const int pid = pool_.BoxOf(worker).pid; pid > 0) {
    KillAndReap(pid);
  }
}

void Supervisor::Abandon(std::uint32_t w, const absl::Status& why) {
  Worker& worker = pool_.workers[w];
  if (!worker.cold && absl::IsNotFound(why)) {  // it has ended, and only how is not known
    pool_.ZygoteOf(worker).ReleaseLaunch(worker.slot);
    (void)worker.session.Ended(pool_.SubjectOf(worker), why);
    for (UniqueFd& output : worker.session.outputs) output.reset();
    return Finish(w);
  }
  if (!worker.cold) EndUnseen(worker);  // a cold one ends with its record
  std::unique_ptr<ActiveRequest> request = TakeRequest(w);
  records_.Free(w);
  pool_.Answer(std::move(request), why);
}

bool Supervisor::HasExeced(const Worker& worker) const {
  const Mailbox& box = pool_.SubjectOf(worker).box;
  return box.pid > 0 && HasLetGo(box);
}

// A worker that has exec'd or died is not launching, and the memory of its launch is free for
// others. One that takes unusually long (an exec can wait for a file) must not keep the others
// waiting.
void Supervisor::LookAtLaunches() {
  const std::int64_t now = launching_.empty() ? 0 : NowNs();
  std::erase_if(launching_, [&](std::uint32_t w) {
    Worker& worker = pool_.workers[w];
    if (!HasExeced(worker)) {
      if (now - worker.launching_since_ns <= kLongLaunchNs) return false;
      if (worker.phase == WorkerPhase::kRunning && !worker.session.exit) {
        (void)worker.session.EndIfFrozen(pool_.SubjectOf(worker));
      }
      return true;
    }
    if (!worker.cold) pool_.ZygoteOf(worker).ReleaseLaunch(worker.slot);
    return true;
  });
}

void Supervisor::OnExit(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  const UniqueFd pidfd = worker.cold ? worker.cold->GiveUp() : std::move(worker.pidfd);
  const absl::StatusOr<Exit> exit = AskHowItEnded(pidfd.get());
  // After its outcome has been told.
  const absl::Cleanup reap = [&] { (void)Reap(pidfd.get()); };
  // Descriptors it never took would keep its output open.
  if (!worker.cold) pool_.ZygoteOf(worker).ReleaseLaunch(worker.slot);
  // Otherwise the pipes report their end.
  if (worker.session.Ended(pool_.SubjectOf(worker), exit)) Finish(w);
}

void Supervisor::OnOutput(std::uint32_t w, std::size_t stream) {
  Worker& worker = pool_.workers[w];
  if (!worker.session.outputs[stream].valid()) return;
  if (worker.session.ReadOutput(stream)) {
    (void)pool_.ring->AwaitAgain(
        worker.session.outputs[stream].get(), POLLIN,
        pool_.TokenOf(stream == 0 ? Source::kWorkerOut : Source::kWorkerErr, w));
    return;
  }
  if (worker.session.exit && !worker.session.OutputOpen()) Finish(w);
}

std::optional<std::int64_t> Supervisor::next_deadline_ns() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

void Supervisor::EndOverdue(std::int64_t now_ns) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    const Token token = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Worker& worker = pool_.workers[token.index];
    if (!pool_.IsCurrent(token) || worker.phase != WorkerPhase::kRunning || worker.session.exit) {
      continue;
    }
    worker.session.TimeOut(pool_.SubjectOf(worker));
  }
}

Outcome Supervisor::NewOutcome(const Worker& worker, const ActiveRequest& request) const {
  Outcome outcome;
  outcome.template_name = pool_.TemplateOf(worker).options.name;
  outcome.spawn_path = worker.path;
  if (request.request.fresh) outcome.fresh = "its request asks for that";
  outcome.fallbacks = pool_.resources.fallbacks;
  outcome.fallbacks.insert(outcome.fallbacks.end(), request.fallbacks.begin(),
                           request.fallbacks.end());
  return outcome;
}

void Supervisor::Finish(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  std::unique_ptr<ActiveRequest> request = TakeRequest(w);

  // Killed while parked, it never saw the request: somebody else may have it.
  const Subject subject = pool_.SubjectOf(worker);
  const bool unseen = worker.path == SpawnPath::kParked && worker.session.NeverSeen(subject);
  if (unseen && ++request->attempts < kMaxAttempts) {
    ++pool_.totals.lost_workers;
    Template& tmpl = pool_.TemplateOf(worker);
    records_.Free(w);
    request->launched.reset();
    tmpl.waiting.push_front(std::move(request));
    return;
  }

  Outcome outcome = NewOutcome(worker, *request);
  worker.session.Tell(subject, request->request.command, /*usage_wanted=*/false, outcome);
  records_.Free(w);
  pool_.Answer(std::move(request), std::move(outcome));
}

Worker* Supervisor::RunningFor(std::uint64_t request) {
  const auto found =
      std::find_if(pool_.workers.begin(), pool_.workers.end(), [&](const Worker& worker) {
        return worker.phase == WorkerPhase::kRunning && !worker.session.exit &&
               worker.request->id == request;
      });
  return found == pool_.workers.end() ? nullptr : &*found;
}

absl::Status Supervisor::Signal(std::uint64_t request, const SignalOrder& order) {
  if (Worker* worker = RunningFor(request)) {
    return worker->session.Signal(pool_.SubjectOf(*worker), order);
  }
  return Error(absl::StatusCode::kNotFound, "the request has no running worker");
}

bool Supervisor::RunsCommand(std::uint64_t request) {
  const Worker* worker = RunningFor(request);
  return worker != nullptr && HasExeced(*worker);
}

bool Supervisor::Kill(std::uint64_t request) {
  for (Worker& worker : pool_.workers) {
    if (!worker.request || worker.session.exit || worker.request->id != request) continue;
    worker.session.KillAsAsked(pool_.SubjectOf(worker));
    return true;
  }
  return false;
}

void Supervisor::KillAll() {
  for (Worker& worker : pool_.workers) {
    if (worker.phase == WorkerPhase::kRunning && !worker.session.exit) {
      worker.session.KillAsAsked(pool_.SubjectOf(worker));
    } else if (worker.phase == WorkerPhase::kParked) {
      // Its caller may have launched it and be waiting; parked ones have no use any more.
      const absl::StatusOr<UniqueFd> pidfd = OpenChild(pool_.BoxOf(worker).pid);
      if (pidfd.ok()) syscall(SYS_pidfd_send_signal, pidfd->get(), SIGKILL, nullptr, 0);
    }
  }
}

}  // namespace brood
