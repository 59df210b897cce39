// SPDX-License-Identifier: Apache-2.0

// Slots: namespaces that outlive a worker, and get the next one when they are proven clean.
//
// A slot has a user namespace with its ids and, where the plan has one, a network namespace. Their
// zygote keeps one descriptor of each slot. It cannot enter a slot itself, since nobody comes back
// out of a user namespace: an entrant, a short-lived child, enters it, or is born into new ones,
// looks whether the last worker has left anything, and clones the next. All else of a worker is
// new: its pid, mount, ipc and uts namespaces, and what it mounts.
//
// Freestanding.
#pragma once

#include <cstdint>

#include "spawn/child/birth.h"

namespace brood {

// A zygote's record of a slot. All zeros: it has no namespaces yet.
struct Slot {
  std::int32_t fd = 0;     // its network namespace, or else its user namespace
  std::uint32_t uses = 0;  // workers that have been cloned in it
};

struct SlotBirth {
  BirthRequest* worker = nullptr;
  Slot* slot = nullptr;
  int first = 0;          // the first descriptor of any slot, above all that a worker needs
  int number = 0;         // the one of this slot
  char* stack = nullptr;  // kWorkerStackBytes for the entrant, free again on return
};

// Clones a worker in a slot, whose namespaces are made where it has none, or none that are clean;
// Mailbox tells which. Returns when the entrant has let go of the caller's memory; it is the
// launcher's child, as the worker is, and is to be reaped (Mailbox::entrants). On failure the
// mailbox says so, as after BirthWorker.
void BirthInSlot(const SlotBirth& birth);

// Gives up a slot's namespaces.
void DropSlot(Slot& slot);

}  // namespace brood
