// SPDX-License-Identifier: Apache-2.0

// Slots: namespaces that outlive a worker, and get the next one when they are proven clean.
//
// A slot is a process, its cloner, in user (with its ids), network, uts and mount namespaces that
// are new for it. It does once what its workers can share (Plan::slot_ops: the root entered,
// loopback up, the bounding set dropped), and then waits for orders. For each it looks whether the
// last worker has left anything, and clones the next one, with new pid, mount and ipc namespaces.
//
// The zygote has it born, as a child of the launcher's that shares the zygote's memory. The
// launcher ends it, by a signal, and its namespaces go with it.
//
// Freestanding.
#pragma once

#include <cstdint>

#include "spawn/child/birth.h"

namespace brood {

// What zygote and cloner share of a slot. All zeros: it has had no cloner.
struct Slot {
  std::uint32_t order = 0;    // futex (zygote; cloner: taken)
  std::uint32_t alive = 0;    // 1 while it has a cloner, futex (zygote; kernel)
  std::uint32_t uses = 0;     // workers that its cloner was asked for before (cloner)
  std::uint32_t guarded = 0;  // 1: the stack of its cloners has its guard (zygote)
};

// Of one slot, as its cloner has it.
struct SlotPlace {
  Slot* slot = nullptr;
  std::uint32_t number = 0;
  char* stack = nullptr;         // kWorkerStackBytes, the cloner's for all its life
  char* worker_stack = nullptr;  // the same for its workers
  int parent_fd = -1;            // BirthRequest::parent_fd
  int control_fd = -1;           // BirthRequest::hand_to, of workers that do not park
  // Those of the zygote's descriptors that it keeps: up to the first, and between the others.
  int keep_below = 0;
  int keep_from = 0;
  int keep_end = 0;
};

bool HasCloner(const Slot& slot);
// Waits until a cloner that was killed is gone.
void AwaitClonerEnd(const Slot& slot);

// Has the slot's cloner clone the worker of `box`; does not wait for it. It tells the launcher as
// workers do. WorkerState::kUnclean: there is no worker, and the cloner has ended, since its
// namespaces are not as new (Mailbox::slot_fault).
void OrderOfCloner(Slot& slot, Mailbox& box);
// The same of a new cloner. `context`, with the trees that the template is copied to, is copied;
// what cannot be done is told in its mailbox, and to its notify_fd.
void OrderOfNewCloner(const SlotPlace& place, const ChildContext& context);

}  // namespace brood
