// SPDX-License-Identifier: Apache-2.0

// A template as the pool keeps it: its plan, its zygotes, its workers, and who waits for them.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pool/core/idle_list.h"
#include "pool/core/leaf_stock.h"
#include "pool/core/worker.h"
#include "pool/pool.h"
#include "spawn/launch/zygote.h"
#include "spawn/plan/blueprint.h"

namespace brood {

// What outlives the worker of a slot (spawn/child/slot.h).
struct SlotRecord {
  std::uint32_t ids = 0;  // the host ids of its user namespace; 0: none of its own
  int cloner = 0;         // its pid; 0: the slot has no namespaces
  std::list<std::uint32_t>::iterator turn;  // in ZygoteKeeper::cloners, where it has one
  bool made = false;                        // it has them, and a worker that has been set up
  // What the first worker of these namespaces was told of them, for those that follow.
  std::int32_t net_error = 0;
  std::int32_t idmap_error = 0;
};

// One zygote and the workers it was asked for. A dead zygote's keeper stays until its last worker
// is gone, since their mailboxes lie in its memory.
struct ZygoteKeeper {
  std::unique_ptr<Zygote> zygote;
  std::uint32_t tmpl = 0;
  bool alive = true;
  struct FreeSlot {
    std::uint32_t slot = 0;
    std::int64_t since_ns = 0;
  };
  // Free slots that were used before: those with namespaces, in the order in which they became
  // free, and those without.
  std::deque<FreeSlot> kept_slots;
  std::vector<std::uint32_t> bare_slots;
  std::uint32_t used_slots = 0;  // the first of those that have never been used
  // Slots with namespaces; the one whose last worker was ordered first comes first.
  std::list<std::uint32_t> cloners;
  bool full() const {
    return kept_slots.empty() && bare_slots.empty() && used_slots == slots.size();
  }
  std::vector<std::uint32_t> ordered;  // workers that are being made
  // Orders that the zygote has not been sent: slots, kNewSlot with those without namespaces.
  std::vector<std::uint32_t> unsent;
  std::uint32_t workers = 0;      // slots in use
  std::vector<SlotRecord> slots;  // all of them
  std::uint32_t first_slot = 0;   // the number of its slot 0 within the pool
};

// The leaf of a parent cgroup in which all its zygotes live.
inline constexpr char kZygoteLeaf[] = "zygotes";

struct Template {
  Template(TemplateOptions opts, Blueprint plan, const ParentCgroup* parent, std::uint32_t index)
      : options(std::move(opts)),
        blueprint(std::move(plan)),
        leaves(parent, std::to_string(index) + "-", options.spec) {}

  TemplateOptions options;
  Blueprint blueprint;            // for zygotes
  std::optional<Blueprint> cold;  // made when a request first wants that path
  LeafStock leaves;
  std::vector<std::uint32_t> keepers;                             // living zygotes
  std::shared_ptr<IdleList> idle = std::make_shared<IdleList>();  // parked workers
  std::uint32_t ordered = 0;                                      // being made, to be parked
  bool filling = true;  // until all that are wanted are parked
  std::int64_t last_launch_ns = 0;
  std::uint32_t alive = 0;                             // workers in any phase but kFree
  std::deque<std::unique_ptr<ActiveRequest>> waiting;  // for a parked worker
  std::deque<std::unique_ptr<ActiveRequest>> direct;   // for a clone of their own

  bool retired = false;  // replaced or removed: takes no new request, ends with its last worker

  // After a worker could not be made the next try waits, longer each time.
  int failures = 0;
  std::int64_t retry_at_ns = 0;
  std::string last_failure;
};

}  // namespace brood
