// SPDX-License-Identifier: Apache-2.0

#include "pool/core/dispatch.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"

namespace brood {

absl::Status Dispatcher::PrepareLimits() {
  PoolOptions& options = pool_.options;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return ErrnoError(errno, "reading RLIMIT_NOFILE");
  if (files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
  }
  // A running worker costs the launcher three descriptors, and two pipes when it is captured; one
  // that has ended two, until its namespaces are taken down; a parked one costs none. The
  // quarter that is left is for zygotes, templates and what is opened for a moment.
  const std::uint64_t all = std::min<std::uint64_t>(files.rlim_cur, 1U << 20);
  const std::uint64_t watched = options.watched_fds * (1 + pool_.ring->fds_of_a_wait());
  const std::uint64_t usable = (all - std::min(watched, all / 2)) * 3 / 4;
  usable_fds_ = usable;
  max_running_ = static_cast<std::uint32_t>(std::max<std::uint64_t>(usable / 8, 16));
  if (options.max_running != 0) max_running_ = std::min(max_running_, options.max_running);
  deferred_closes_room_ = static_cast<std::size_t>(std::min<std::uint64_t>(usable / 4, 4096));
  if (options.launch_window == 0) {
    options.launch_window = 2 * std::max(1U, std::thread::hardware_concurrency());
  }
  return absl::OkStatus();
}

void Dispatcher::Admit(std::unique_ptr<ActiveRequest> request) {
  Template* tmpl = pool_.Find(request->request.template_name);
  if (tmpl == nullptr) {
    const std::string name = request->request.template_name;
    return pool_.Answer(std::move(request),
                        Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", name));
  }
  if (request->launched) return Adopt(std::move(request), *tmpl);
  if (tmpl->waiting.size() + tmpl->direct.size() >= pool_.options.max_queue) {
    return pool_.Answer(std::move(request), Error(absl::StatusCode::kResourceExhausted,
                                                  "{} requests wait for template {} already",
                                                  pool_.options.max_queue, tmpl->options.name));
  }
  if (request->request.spec) request->request.path = SpawnPath::kCold;
  // A parked worker has its namespaces already, perhaps from another.
  const bool in_slots = tmpl->blueprint.plan().slot_flags != 0;
  if (request->request.fresh && in_slots && request->request.path == SpawnPath::kParked) {
    request->request.path = SpawnPath::kZygote;
  }
  if (request->request.path != SpawnPath::kParked) {
    tmpl->direct.push_back(std::move(request));
    return;
  }
  const bool empty = tmpl->idle->size() <= tmpl->waiting.size();
  if (empty && request->request.when_empty == WhenEmpty::kRefuse) {
    return pool_.Answer(std::move(request),
                        Error(absl::StatusCode::kResourceExhausted,
                              "no parked worker of template {} is free ({} running, {} being made)",
                              tmpl->options.name, supervisor_.running(), tmpl->ordered));
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
bool Dispatcher::HasRoom() const {
  // Its own, and those of the waits for its end and its two outputs.
  const std::uint64_t fds_of_a_running_worker = 5 + 3 * pool_.ring->fds_of_a_wait();
  const std::uint32_t running = supervisor_.running();
  return running < max_running_ && (running + 1) * fds_of_a_running_worker +
                                           records_.deferred_closes() + pool_.ring->closing() <=
                                       usable_fds_;
}

bool Dispatcher::MayLaunch() const {
  return HasRoom() && supervisor_.launching() < pool_.options.launch_window;
}

void Dispatcher::Run() {
  for (std::uint32_t t = 0; t < pool_.templates.size(); ++t) {
    Template& tmpl = pool_.templates[t];
    while (!tmpl.direct.empty() && MayLaunch()) {
      if (tmpl.direct.front()->request.path == SpawnPath::kCold) {
        std::unique_ptr<ActiveRequest> request = std::move(tmpl.direct.front());
        tmpl.direct.pop_front();
        StartCold(t, std::move(request));
      } else {
        if (!refill_.Order(t, tmpl.direct.front())) break;
        tmpl.direct.pop_front();
      }
    }
    while (!tmpl.waiting.empty() && MayLaunch()) {
      const std::optional<IdleList::Entry> parked = tmpl.idle->Take();
      if (!parked) break;
      if (refill_.BuryIfDead(parked->worker)) continue;
      if (!Launch(parked->worker, tmpl.waiting.front())) {
        tmpl.idle->Put(*parked);
        break;
      }
      tmpl.waiting.pop_front();
    }
    tmpl.idle->Report(HasRoom() && tmpl.waiting.empty() && tmpl.direct.empty(),
                      supervisor_.launching());
    refill_.Fill(t);
  }
}

bool Dispatcher::HeldUp() const {
  return supervisor_.launching() > 0 &&
         std::any_of(pool_.templates.begin(), pool_.templates.end(), [](const Template& tmpl) {
           return (!tmpl.waiting.empty() && tmpl.idle->size() > 0) || !tmpl.direct.empty();
         });
}

// Gives a parked worker a request, which is taken. False when it cannot be done now.
bool Dispatcher::Launch(std::uint32_t w, std::unique_ptr<ActiveRequest>& request) {
  Worker& worker = pool_.workers[w];
  Zygote& zygote = pool_.ZygoteOf(worker);
  const Command& command = request->request.command;
  if (!zygote.WriteLaunch(worker.slot, LaunchLayout(command))) return false;
  bool not_now = false;
  absl::Status ready = supervisor_.GiveStdio(worker, command, not_now);
  if (not_now) {
    zygote.ReleaseLaunch(worker.slot);
    return false;
  }
  worker.session.facts = WorkerFacts{};
  supervisor_.Begin(w, std::move(request));
  pool_.TemplateOf(worker).last_launch_ns = NowNs();
  // Before it is woken it is certainly there, and after its exec perhaps not (spawn/launch/reap.h).
  if (ready.ok()) {
    absl::StatusOr<UniqueFd> pidfd = OpenChild(pool_.BoxOf(worker).pid);
    ready = pidfd.status();
    if (pidfd.ok()) worker.pidfd = *std::move(pidfd);
  }
  // What is left to do here runs beside its exec.
  if (ready.ok()) zygote.Wake(worker.slot, WorkerState::kLaunch);
  supervisor_.Watch(w, ready);
  return true;
}

// Takes over a worker that a caller's thread has launched.
void Dispatcher::Adopt(std::unique_ptr<ActiveRequest> request, Template& tmpl) {
  const std::uint32_t w = *request->launched;
  Worker& worker = pool_.workers[w];
  tmpl.idle->Arrived();
  tmpl.last_launch_ns = NowNs();
  const absl::Status there = request->pidfd.status();
  if (there.ok()) worker.pidfd = *std::move(request->pidfd);
  supervisor_.Begin(w, std::move(request));
  supervisor_.Watch(w, there);
}

void Dispatcher::TakeBack(Inbox::Used used) {
  Worker& worker = pool_.workers[used.worker];
  Template& tmpl = pool_.TemplateOf(worker);
  tmpl.idle->Arrived();
  tmpl.last_launch_ns = NowNs();
  ++pool_.totals.served[static_cast<std::size_t>(SpawnPath::kParked)];
  worker.kept = std::move(used.kept);
  worker.session.leaf_spoilt |= used.leaf_spoilt;
  records_.Free(used.worker);
}

absl::Status Dispatcher::MakeColdBlueprint(Template& tmpl, const Request& request, Worker& worker) {
  if (request.spec) {
    BROOD_ASSIGN_OR_RETURN(Blueprint own, Blueprint::Make(*request.spec, PlanKind::kCold));
    worker.own_blueprint = std::move(own);
  } else if (!tmpl.cold) {
    BROOD_ASSIGN_OR_RETURN(Blueprint blueprint,
                           Blueprint::Make(tmpl.options.spec, PlanKind::kCold, tmpl.options.fault));
    tmpl.cold.emplace(std::move(blueprint));
  }
  return absl::OkStatus();
}

void Dispatcher::StartCold(std::uint32_t t, std::unique_ptr<ActiveRequest> request) {
  Template& tmpl = pool_.templates[t];
  const Request& wanted = request->request;
  const std::uint32_t w = records_.Take();
  Worker& worker = pool_.workers[w];
  const auto refuse = [&](const absl::Status& why) {
    records_.Drop(w);
    pool_.Answer(std::move(request), why);
  };
  worker.tmpl = t;
  worker.path = SpawnPath::kCold;
  if (const absl::Status made = MakeColdBlueprint(tmpl, wanted, worker); !made.ok()) {
    return refuse(made);
  }
  const absl::Status equipped =
      wanted.spec ? records_.EquipOwn(worker, wanted) : records_.Equip(worker, tmpl);
  if (!equipped.ok()) return refuse(equipped);
  Birthplace place;
  place.parent_fd = pool_.resources.parent ? pool_.resources.parent->fd() : -1;
  place.leaf = wanted.leaf.empty() ? worker.leaf : wanted.leaf;
  place.id_first = worker.id_first;
  absl::StatusOr<ColdWorker> cold =
      ColdWorker::Start(pool_.BlueprintOf(worker), wanted.command, place, pool_.launcher_fds);
  if (!cold.ok()) return refuse(cold.status());
  ++tmpl.alive;
  worker.cold.emplace(*std::move(cold));
  worker.session.outputs = std::move(worker.cold->outputs());
  worker.session.CaptureUpTo(wanted.command.stdio.capture_bytes);
  supervisor_.Begin(w, std::move(request));
  if (worker.cold->started()) {
    supervisor_.Watch(w);
  } else {
    supervisor_.NeverStarted(w);
  }
}

bool Dispatcher::Cancel(std::uint64_t number) {
  for (Template& tmpl : pool_.templates) {
    for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
      const auto found = std::find_if(queue->begin(), queue->end(),
                                      [&](const auto& request) { return request->id == number; });
      if (found == queue->end()) continue;
      std::unique_ptr<ActiveRequest> request = std::move(*found);
      queue->erase(found);
      pool_.Answer(std::move(request), Error(absl::StatusCode::kCancelled,
                                             "the request was ended before its turn came"));
      return true;
    }
  }
  return false;
}

void Dispatcher::Refuse(std::unique_ptr<ActiveRequest> request) {
  pool_.Answer(std::move(request), Error(absl::StatusCode::kUnavailable,
                                         "the pool was shut down before its turn came"));
}

void Dispatcher::RefuseQueued() {
  for (Template& tmpl : pool_.templates) {
    for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
      while (!queue->empty()) {
        auto request = std::move(queue->front());
        queue->pop_front();
        Refuse(std::move(request));
      }
    }
  }
}

}  // namespace brood
