// SPDX-License-Identifier: Apache-2.0

// Namespaces that outlive their last process for a moment.
#pragma once

#include <array>

#include "spawn/base/unique_fd.h"
#include "spawn/child/mailbox.h"
#include "spawn/child/plan.h"

namespace brood {

// A worker's mount and network namespace, as far as they end with it: those of its slot
// (spawn/child/slot.h) stay anyway while that has a cloner.
using KeptNamespaces = std::array<UniqueFd, 2>;

// Holds them; nothing when the worker has ended already. `proc_fd` is a /proc.
//
// The last process to leave a mount namespace takes its mounts down and waits for an RCU grace
// period. That would be the worker, before its end is reported. A network namespace is taken down
// by a kernel thread, in batches of whatever has died meanwhile, beside the next worker's start.
// (An ipc namespace, too, but one by one: to hold it costs more than it saves.) The holder chooses
// when, and how many at once, by closing the descriptors.
KeptNamespaces KeepNamespaces(const Plan& plan, int pidfd, int proc_fd, const Mailbox& box);

}  // namespace brood
