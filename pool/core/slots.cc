// SPDX-License-Identifier: Apache-2.0

#include "pool/core/slots.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/launch/reap.h"

namespace brood {
namespace {

// How long a slot rests before it is used again, and how many do so at most.
constexpr std::int64_t kRestNs = 20'000'000;
constexpr std::size_t kSpareSlots = 64;

}  // namespace

// A slot of a zygote that has a free one. Where it has namespaces, one that has been free for a
// while: the kernel counts some sockets (netlink) until a grace period is over.
std::uint32_t Slots::Take(ZygoteKeeper& keeper, bool to_be_made) {
  auto& kept = keeper.kept_slots;
  auto& bare = keeper.bare_slots;
  const bool none_new = bare.empty() && keeper.used_slots == keeper.slots.size();
  const bool rested = !kept.empty() && NowNs() >= kept.front().since_ns + kRestNs;
  if ((rested && !to_be_made) || none_new || kept.size() >= kSpareSlots) {
    const std::uint32_t slot = kept.front().slot;
    SlotRecord& record = keeper.slots[slot];
    record.made = false;
    if (record.cloner != 0) {
      keeper.cloners.splice(keeper.cloners.end(), keeper.cloners, record.turn);
    }
    kept.pop_front();
    return slot;
  }
  if (bare.empty()) return keeper.used_slots++;
  const std::uint32_t slot = bare.back();  // the last one's memory is warm
  bare.pop_back();
  return slot;
}

std::uint32_t* Slots::IdsOf(const Worker& worker) {
  const bool in_slot =
      worker.path != SpawnPath::kCold && pool_.TemplateOf(worker).blueprint.plan().slot_flags != 0;
  return in_slot ? &pool_.keepers[worker.keeper]->slots[worker.slot].ids : nullptr;
}

void Slots::NoteCloner(const Worker& worker) {
  const int pid = std::exchange(pool_.BoxOf(worker).cloner, 0);
  if (pid <= 0) return;
  ZygoteKeeper& keeper = *pool_.keepers[worker.keeper];
  EndCloner(keeper, worker.slot, /*idle=*/true);  // which was killed by somebody else
  __atomic_store_n(&pool_.BoxOf(worker).cloner_ended, 0U, __ATOMIC_RELAXED);
  SlotRecord& record = keeper.slots[worker.slot];
  record = {.ids = record.ids, .cloner = pid, .turn = {}};
  record.turn = keeper.cloners.insert(keeper.cloners.end(), worker.slot);
}

void Slots::EndCloner(ZygoteKeeper& keeper, std::uint32_t slot, bool idle) {
  SlotRecord& record = keeper.slots[slot];
  const int pid = std::exchange(record.cloner, 0);
  if (pid == 0) return;
  keeper.cloners.erase(record.turn);
  if (keeper.zygote) {
    __atomic_store_n(&keeper.zygote->mailbox(slot).cloner_ended, 1U, __ATOMIC_RELAXED);
  }
  if (!idle) return KillAndReap(pid);
  if (ReapIfEnded(pid)) return;
  kill(pid, SIGKILL);
  killed_cloners_.push_back(pid);
}

void Slots::GiveUp(ZygoteKeeper& keeper, std::uint32_t slot) {
  EndCloner(keeper, slot, /*idle=*/true);
  SlotRecord& record = keeper.slots[slot];
  if (record.ids != 0) pool_.resources.ids.Return(record.ids);
  record = {};
}

void Slots::Return(ZygoteKeeper& keeper, std::uint32_t slot) {
  if (keeper.slots[slot].cloner != 0) {
    keeper.kept_slots.push_back({slot, NowNs()});
    keeper.slots[slot].made = false;
  } else {
    GiveUp(keeper, slot);
    keeper.bare_slots.push_back(slot);
  }
}

// Killed from outside before it had cloned the worker, or while it did. Of one that ended before
// the zygote came to the order, the zygote makes another.
bool Slots::HasLostCloner(const Worker& worker) const {
  const Mailbox& box = pool_.BoxOf(worker);
  if (__atomic_load_n(&box.passed_on, __ATOMIC_ACQUIRE) == 0) return false;
  const int made = box.cloner;
  const int cloner = made != 0 ? made : pool_.keepers[worker.keeper]->slots[worker.slot].cloner;
  return cloner > 0 && HasEnded(cloner);
}

// Counts what became of the slot that a worker has been made in. Its namespaces are given up where
// they cannot be used again: `finished` is false when the worker may not have made them ready.
void Slots::Count(const Worker& worker, bool finished) {
  if (pool_.TemplateOf(worker).blueprint.plan().slot_flags == 0) return;
  NoteCloner(worker);
  Mailbox& box = pool_.BoxOf(worker);
  ZygoteKeeper& keeper = *pool_.keepers[worker.keeper];
  SlotRecord& record = keeper.slots[worker.slot];
  if (box.slot_uses == 0) {
    ++pool_.totals.slots.made;
    record.net_error = box.net_error;
    record.idmap_error = box.idmap_error;
  } else {
    ++pool_.totals.slots.reused;
    box.net_error = record.net_error;
    box.idmap_error = record.idmap_error;
  }
  const bool fresh = worker.request && worker.request->request.fresh;
  const bool sealed = box.slot_fault == static_cast<std::uint32_t>(SlotFault::kNone);
  if (!sealed) CountGivenUp(box);
  record.made = finished;
  if (!finished || !sealed || fresh) {
    return EndCloner(keeper, worker.slot, /*idle=*/finished);
  }
  // The one whose worker has lived longest will be used again last.
  if (keeper.cloners.size() <= kKeptSlots + keeper.kept_slots.size()) return;
  const auto oldest = std::find_if(keeper.cloners.begin(), keeper.cloners.end(),
                                   [&](std::uint32_t slot) { return keeper.slots[slot].made; });
  if (oldest != keeper.cloners.end()) EndCloner(keeper, *oldest, /*idle=*/true);
}

void Slots::CountGivenUp(const Mailbox& box) {
  if (box.slot_fault < kSlotFaults) ++pool_.totals.slots.given_up[box.slot_fault];
}

void Slots::DropIdle(ZygoteKeeper& keeper, std::size_t but) {
  while (keeper.kept_slots.size() > but) {
    const std::uint32_t slot = keeper.kept_slots.front().slot;
    keeper.kept_slots.pop_front();
    GiveUp(keeper, slot);
    keeper.bare_slots.push_back(slot);
  }
}

void Slots::ReapCloners() {
  for (const int pid : std::exchange(killed_cloners_, {})) KillAndReap(pid);
}

void Slots::Tick() {
  std::erase_if(killed_cloners_, [](int pid) { return ReapIfEnded(pid); });
}

}  // namespace brood
