// SPDX-License-Identifier: Apache-2.0

#include "pool/core/pool_state.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace brood {

Template* PoolState::Find(const std::string& name) {
  for (Template& tmpl : templates) {
    if (!tmpl.retired && (name.empty() || tmpl.options.name == name)) return &tmpl;
  }
  return nullptr;
}

LeafUsage PoolState::UsageOf(const std::string& leaf) const {
  return resources.parent && !leaf.empty() ? resources.parent->ReadLeafUsage(leaf) : LeafUsage{};
}

bool PoolState::LeafFrozen(const std::string& leaf) const {
  return resources.parent && !leaf.empty() && resources.parent->LeafFrozen(leaf).value_or(false);
}

const Blueprint& PoolState::BlueprintOf(const Worker& worker) const {
  if (worker.own_blueprint) return *worker.own_blueprint;
  const Template& tmpl = templates[worker.tmpl];
  return worker.path == SpawnPath::kCold ? *tmpl.cold : tmpl.blueprint;
}

Subject PoolState::SubjectOf(const Worker& worker) const {
  return {.blueprint = BlueprintOf(worker),
          .box = worker.cold ? worker.cold->mailbox() : BoxOf(worker),
          .pidfd = worker.cold ? worker.cold->pidfd() : worker.pidfd.get(),
          .parent = parent(),
          .leaf = worker.leaf};
}

Token PoolState::TokenOf(Source source, std::uint32_t worker) const {
  return {source, workers[worker].generation & 0xffffff, worker};
}

bool PoolState::IsCurrent(Token token) const {
  return (workers[token.index].generation & 0xffffff) == token.generation;
}

void PoolState::Answer(std::unique_ptr<ActiveRequest> request, absl::StatusOr<Outcome> outcome) {
  if (outcome.ok()) {
    outcome->id = request->id;
    ++totals.served[static_cast<std::size_t>(outcome->spawn_path)];
  }
  request->callback(std::move(outcome));
}

nlohmann::ordered_json ToJson(const SlotStats& slots) {
  auto given_up = nlohmann::ordered_json::object();
  for (std::size_t fault = 1; fault < kSlotFaults; ++fault) {
    given_up[std::string(SlotFaultName(static_cast<SlotFault>(fault)))] = slots.given_up[fault];
  }
  return {{"used_again", slots.reused},
          {"made", slots.made},
          {"idle", slots.idle},
          {"given_up", std::move(given_up)}};
}

}  // namespace brood
