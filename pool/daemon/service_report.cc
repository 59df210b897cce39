// SPDX-License-Identifier: Apache-2.0

// The part of the service that tells: ps, inspect, logs, stats, tree.
#include <nlohmann/json.hpp>
#include <utility>

#include "pool/daemon/isolation.h"
#include "pool/daemon/service.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

absl::Status Service::OnList(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const ListIsolates list, DecodeBody<ListIsolates>(message.body));
  auto json = nlohmann::ordered_json::array();
  for (const Isolate& isolate : isolates_.all()) {
    if (list.all == 0 && isolate.state == IsolateState::kEnded) continue;
    json.push_back(ToJson(isolate, /*whole=*/false));
  }
  peer->Answer(message.header.tag, Text{Dump(json)});
  return absl::OkStatus();
}

absl::Status Service::OnInspect(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const IsolateName name, DecodeBody<IsolateName>(message.body));
  BROOD_ASSIGN_OR_RETURN(const Isolate* const isolate, isolates_.Find(name.isolate));
  nlohmann::ordered_json json = ToJson(*isolate, /*whole=*/true);
  if (isolate->state == IsolateState::kRunning) json["fences"] = IsolationOf(isolate->host_pid);
  peer->Answer(message.header.tag, Text{Dump(json)});
  return absl::OkStatus();
}

absl::Status Service::OnLogs(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const ReadLogs logs, DecodeBody<ReadLogs>(message.body));
  BROOD_ASSIGN_OR_RETURN(const Isolate* const isolate, isolates_.Find(logs.isolate));
  BROOD_RETURN_IF_ERROR(MayTouch(*peer, *isolate, "read its output"));
  if (!isolate->logs) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the output of {} went straight to whoever submitted it; only that of detached "
                 "isolates (submit -d) is kept",
                 isolate->id);
  }
  BROOD_RETURN_IF_ERROR(peer->BeginWait());
  followers_.push_back({peer, message.header.tag, isolate->id, 0, logs.follow != 0});
  peer->on_drained = [this, weak = std::weak_ptr<Peer>(peer)] {
    std::vector<std::string> read;
    for (const Follower& follower : followers_) {
      if (follower.peer.lock() == weak.lock()) read.push_back(follower.isolate);
    }
    for (const std::string& id : read) Pump(id);
  };
  Pump(isolate->id);
  return absl::OkStatus();
}

// Sends to all who read an isolate's output what they have not seen yet.
void Service::Pump(const std::string& isolate) {
  followers_.remove_if([&](Follower& follower) {
    if (follower.isolate != isolate || PumpOne(follower)) return false;
    if (const auto peer = follower.peer.lock()) peer->EndWait();
    return true;
  });
}

// False when there is nothing more to come.
bool Service::PumpOne(Follower& follower) {
  const auto peer = follower.peer.lock();
  if (!peer || !peer->open()) return false;
  const Isolate* const isolate = isolates_.ById(follower.isolate);
  if (isolate == nullptr) {
    peer->Refuse(follower.tag, Error(absl::StatusCode::kNotFound, "{} has been forgotten meanwhile",
                                     follower.isolate));
    return false;
  }
  while (!peer->congested()) {
    const std::optional<LogRing::Part> part = isolate->logs->Read(follower.position);
    if (part) {
      peer->Answer(follower.tag, LogPart{part->stream, part->lost, std::string(part->bytes)});
      continue;
    }
    if (follower.follow && isolate->state != IsolateState::kEnded) return true;
    peer->AnswerDone(follower.tag);
    return false;
  }
  return true;
}

absl::Status Service::OnStats(const PeerPtr& peer, const Incoming& message) {
  const PoolStats stats = pool_.Stats();
  std::vector<RunningIsolate> running;
  for (const Isolate& isolate : isolates_.all()) {
    if (isolate.state != IsolateState::kRunning) continue;
    running.push_back({isolate.id, isolate.name, isolate.host_pid, isolate.leaf});
  }
  BROOD_RETURN_IF_ERROR(peer->BeginJob());
  options_.elsewhere([&pool = pool_, stats, running = std::move(running),
                      caller = std::weak_ptr<Peer>(peer), tag = message.header.tag] {
    if (caller.expired()) return;
    const std::string text = Dump(StatsJson(stats, running));
    pool.Post([=] {
      if (const auto to = caller.lock()) to->EndJob(tag, Text{text});
    });
  });
  return absl::OkStatus();
}

absl::Status Service::OnTree(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const ListIsolates list, DecodeBody<ListIsolates>(message.body));
  std::vector<RunningIsolate> running;
  for (const Isolate& isolate : isolates_.all()) {
    if (isolate.state != IsolateState::kRunning) continue;
    running.push_back({isolate.id, isolate.name, isolate.host_pid, isolate.leaf});
  }
  std::vector<RunningIsolate> execs;
  for (const auto& [number, exec] : execs_) execs.push_back(exec);
  const std::vector<int> zygotes = pool_.ZygotePids();
  BROOD_RETURN_IF_ERROR(peer->BeginJob());
  options_.elsewhere([&pool = pool_, running = std::move(running), execs = std::move(execs),
                      zygotes, all = list.all != 0, caller = std::weak_ptr<Peer>(peer),
                      tag = message.header.tag] {
    if (caller.expired()) return;
    const std::string text = Dump(IsolateTree(running, execs, zygotes, all));
    pool.Post([=] {
      if (const auto to = caller.lock()) to->EndJob(tag, Text{text});
    });
  });
  return absl::OkStatus();
}

}  // namespace brood
