// SPDX-License-Identifier: Apache-2.0

// Has workers made: keeps zygotes alive and asks them for workers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/pool_state.h"
#include "pool/core/supervise.h"
#include "pool/core/worker_records.h"

namespace brood {

// Belongs to the pool's thread.
class Refill {
 public:
  Refill(PoolState& pool, WorkerRecords& records, Supervisor& supervisor)
      : pool_(pool), records_(records), slots_(records.slots()), supervisor_(supervisor) {}

  // Starts one zygote more for a template, whose place in PoolState::templates this is.
  absl::Status StartZygote(std::uint32_t tmpl);
  // Orders what the template lacks, in a quiet moment unless it lacks much.
  void Fill(std::uint32_t tmpl);
  // When Fill has to be called again for a template, CLOCK_MONOTONIC; none: when a worker is taken.
  std::optional<std::int64_t> NextFillNs(const Template& tmpl) const;
  // Asks a zygote for one worker: to be parked, or (with `request`) to run it at once. False when
  // no zygote has room or the worker cannot be equipped now; otherwise `request` is taken, and
  // perhaps answered with an error.
  bool Order(std::uint32_t tmpl, std::unique_ptr<ActiveRequest>& request);

  // What the ring reports. `keeper` is a place in PoolState::keepers.
  void OnZygoteNotice(std::uint32_t keeper);
  void OnZygoteDeath(std::uint32_t keeper);
  // What nobody reports, to be looked for now and then: workers killed while they were made or
  // parked, zygotes in a frozen cgroup. Sends what waits to be sent, starts the zygotes that could
  // not be started before.
  void Tick();

  // Frees a parked worker if it was killed.
  bool BuryIfDead(std::uint32_t worker);

 private:
  std::size_t Lacking(const Template& tmpl) const;
  ZygoteKeeper* Choose(const Template& tmpl, std::uint32_t& index);
  bool WriteRequest(Worker& worker, std::unique_ptr<ActiveRequest>& request);
  static void SendFor(ZygoteKeeper& keeper, std::uint32_t slot);
  void SendOrders(ZygoteKeeper& keeper);
  void CollectMade(std::uint32_t keeper, bool look_for_dead);
  void OnUnclean(std::uint32_t worker);
  void OnMade(std::uint32_t worker);
  void OnNotMade(std::uint32_t worker);
  void OrderAgain(std::uint32_t worker);
  void RestartZygote(std::uint32_t tmpl);
  void EndFrozenZygote(ZygoteKeeper& keeper);

  PoolState& pool_;
  WorkerRecords& records_;
  Slots& slots_;
  Supervisor& supervisor_;
  std::vector<std::uint32_t> to_restart_;  // templates that have lost a zygote
  std::uint32_t slot_numbers_ = 0;         // given to slots
  std::size_t park_next_ = 0;              // in PoolStats::park_us
};

}  // namespace brood
