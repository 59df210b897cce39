// SPDX-License-Identifier: Apache-2.0

// What outlives workers: which slots a zygote has, who their cloners are, and when their namespaces
// are used again, kept or given up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pool/core/pool_state.h"

namespace brood {

// Belongs to the pool's thread.
class Slots {
 public:
  explicit Slots(PoolState& pool) : pool_(pool) {}

  // A free slot of a zygote that is not full. `to_be_made`: one without namespaces, if there is
  // one.
  static std::uint32_t Take(ZygoteKeeper& keeper, bool to_be_made);
  // The slot has no worker any more, or has got none.
  void Return(ZygoteKeeper& keeper, std::uint32_t slot);
  // Counts what became of the slot that a worker has been made in. Its namespaces are given up
  // where they cannot be used again: `finished` is false when the worker may not have made them
  // ready.
  void Count(const Worker& worker, bool finished);
  void CountGivenUp(const Mailbox& box);
  // Where the worker's slot keeps the ids; null: they are the worker's alone.
  std::uint32_t* IdsOf(const Worker& worker);

  // Takes note of the cloner that a worker's slot was given with it.
  void NoteCloner(const Worker& worker);
  // It was killed from outside, before it had cloned the worker or while it did.
  bool HasLostCloner(const Worker& worker) const;
  // Ends the cloner of a slot, if it has one, and with it the namespaces that no worker is in. Not
  // `idle`: it may be cloning, and has ended on return.
  void EndCloner(ZygoteKeeper& keeper, std::uint32_t slot, bool idle);
  // The same of a slot that has no worker, whose ids are returned.
  void GiveUp(ZygoteKeeper& keeper, std::uint32_t slot);
  // The same of those that wait for a worker, but for the `but` that have become free last.
  void DropIdle(ZygoteKeeper& keeper, std::size_t but);
  // Waits for the cloners that were killed.
  void ReapCloners();
  // Reaps those that have ended meanwhile.
  void Tick();

 private:
  PoolState& pool_;
  std::vector<int> killed_cloners_;  // not yet reaped
};

}  // namespace brood
