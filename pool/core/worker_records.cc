// SPDX-License-Identifier: Apache-2.0

#include "pool/core/worker_records.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/host/machine.h"

namespace brood {

std::uint32_t WorkerRecords::Take() {
  if (free_.empty()) {
    pool_.workers.emplace_back();
    return static_cast<std::uint32_t>(pool_.workers.size() - 1);
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  return index;
}

absl::Status WorkerRecords::TakeIds(Worker& worker, const Spec& spec) {
  if (!spec.is_new(NamespaceKind::kUser) || !ThisMachine().id_ranges) return absl::OkStatus();
  // A template or a request that came later may be the first to need them.
  if (!pool_.resources.ids.is_open()) {
    BROOD_ASSIGN_OR_RETURN(pool_.resources.ids, IdRanges::Open());
  }
  std::uint32_t* const kept = slots_.IdsOf(worker);
  if (kept != nullptr && *kept != 0) {
    worker.id_first = *kept;
    return absl::OkStatus();
  }
  BROOD_ASSIGN_OR_RETURN(worker.id_first, pool_.resources.ids.Take());
  if (kept != nullptr) *kept = worker.id_first;
  return absl::OkStatus();
}

void WorkerRecords::ReturnIds(Worker& worker) {
  const std::uint32_t ids = std::exchange(worker.id_first, 0);
  if (ids != 0 && slots_.IdsOf(worker) == nullptr) pool_.resources.ids.Return(ids);
}

void WorkerRecords::EndKeeper(ZygoteKeeper& keeper) {
  for (std::uint32_t slot = 0; slot < keeper.used_slots; ++slot) slots_.GiveUp(keeper, slot);
  keeper.zygote.reset();
}

absl::Status WorkerRecords::Equip(Worker& worker, Template& tmpl) {
  BROOD_RETURN_IF_ERROR(TakeIds(worker, tmpl.options.spec));
  absl::StatusOr<std::string> leaf = tmpl.leaves.Take();
  if (!leaf.ok()) {
    ReturnIds(worker);
    return leaf.status();
  }
  worker.leaf = *std::move(leaf);
  return absl::OkStatus();
}

absl::Status WorkerRecords::EquipOwn(Worker& worker, const Request& request) {
  const Spec& spec = *request.spec;
  BROOD_RETURN_IF_ERROR(TakeIds(worker, spec));
  if (!spec.use_cgroup || !pool_.resources.parent || !request.leaf.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> leaf =
      pool_.resources.parent->MakeLeaf(fmt::format("own-{}", own_leaves_++), spec.limits);
  if (!leaf.ok()) {
    ReturnIds(worker);
    return leaf.status();
  }
  worker.leaf = *std::move(leaf);
  worker.own_leaf = true;
  return absl::OkStatus();
}

void WorkerRecords::Unequip(Worker& worker, bool empty) {
  if (worker.own_leaf) {
    if (!empty) (void)pool_.resources.parent->KillLeaf(worker.leaf);
    used_up_.push_back(std::move(worker.leaf));
  } else {
    pool_.TemplateOf(worker).leaves.Return(std::move(worker.leaf),
                                           empty && !worker.session.leaf_spoilt);
  }
  ReturnIds(worker);
}

void WorkerRecords::Drop(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  Unequip(worker, /*empty=*/true);
  worker.Reset();
  free_.push_back(w);
}

void WorkerRecords::Free(std::uint32_t w) {
  Worker& worker = pool_.workers[w];
  const bool was_init = pool_.BlueprintOf(worker).spec().is_new(NamespaceKind::kPid);
  Unequip(worker, was_init);
  --pool_.TemplateOf(worker).alive;
  if (!worker.cold) {
    ZygoteKeeper& keeper = *pool_.keepers[worker.keeper];
    keeper.zygote->ReleaseLaunch(worker.slot);
    if (worker.path == SpawnPath::kZygote) (void)keeper.zygote->TakePidfd(worker.slot, -1);
    keeper.zygote->mailbox(worker.slot) = Mailbox{};
    slots_.Return(keeper, worker.slot);
    if (--keeper.workers == 0 && !keeper.alive) EndKeeper(keeper);
  }
  for (UniqueFd& fd : worker.kept) {
    if (fd.valid()) deferred_closes_.push_back(std::move(fd));
  }
  worker.Reset();
  free_.push_back(w);
}

void WorkerRecords::CloseDeferred() {
  for (UniqueFd& fd : deferred_closes_) {
    if (pool_.ring) pool_.ring->CloseElsewhere(fd.release());
  }
  deferred_closes_.clear();
}

void WorkerRecords::Tick() {
  slots_.Tick();
  std::erase_if(used_up_, [&](const std::string& leaf) {
    return pool_.resources.parent->RemoveLeaf(leaf, std::chrono::milliseconds(0)).ok();
  });
}

}  // namespace brood
