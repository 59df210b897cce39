// SPDX-License-Identifier: Apache-2.0

// The records of workers, and what each is lent for its life: host ids, a cgroup leaf, a place in
// its zygote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/pool_state.h"
#include "pool/core/slots.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Belongs to the pool's thread.
class WorkerRecords {
 public:
  explicit WorkerRecords(PoolState& pool) : pool_(pool), slots_(pool) {}

  // What outlives the workers.
  Slots& slots() { return slots_; }

  // A record that nobody uses, in phase kFree.
  std::uint32_t Take();
  // Lends ids and a leaf to a worker of `tmpl`, whose path and, but for a cold one, keeper and slot
  // are known. It has neither after an error.
  absl::Status Equip(Worker& worker, Template& tmpl);
  // The same for a request with a spec of its own, whose leaf is made for it alone.
  absl::Status EquipOwn(Worker& worker, const Request& request);
  // Frees a dead or stopped zygote that has no worker left, and the ids of its slots.
  void EndKeeper(ZygoteKeeper& keeper);
  // A record that came to nothing: not equipped, or equipped and never cloned.
  void Drop(std::uint32_t worker);
  // The record of a worker that has ended and been reaped. Its mailbox is used again at once.
  void Free(std::uint32_t worker);

  // Namespaces of ended workers that are not taken down yet. All are closed together, by
  // CloseDeferred: the kernel takes network namespaces down in batches whose grace periods cost
  // the same for one as for a hundred.
  std::size_t deferred_closes() const { return deferred_closes_.size(); }
  void CloseDeferred();
  // Removes what the kernel had not let go of before: leaves, cloners that were killed.
  void Tick();

 private:
  absl::Status TakeIds(Worker& worker, const Spec& spec);
  void ReturnIds(Worker& worker);
  // `empty`: nobody can be left in the leaf.
  void Unequip(Worker& worker, bool empty);

  PoolState& pool_;
  Slots slots_;
  std::vector<std::uint32_t> free_;
  std::uint64_t own_leaves_ = 0;  // made for requests with a spec of their own
  std::vector<std::string> used_up_;
  std::vector<UniqueFd> deferred_closes_;
};

}  // namespace brood
