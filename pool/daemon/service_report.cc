// SPDX-License-Identifier: Apache-2.0

// The part of the service that tells: ps, inspect, stats, tree.
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
  const std::vector<int> slots = pool_.SlotPids();
  BROOD_RETURN_IF_ERROR(peer->BeginJob());
  options_.elsewhere([&pool = pool_, running = std::move(running), execs = std::move(execs),
                      zygotes, slots, all = list.all != 0, caller = std::weak_ptr<Peer>(peer),
                      tag = message.header.tag] {
    if (caller.expired()) return;
    const std::string text = Dump(IsolateTree(running, execs, zygotes, slots, all));
    pool.Post([=] {
      if (const auto to = caller.lock()) to->EndJob(tag, Text{text});
    });
  });
  return absl::OkStatus();
}

}  // namespace brood
