// SPDX-License-Identifier: Apache-2.0

// Cloning a worker in existing namespaces. Freestanding.
//
// The process that clones it has to be in them. No thread of the launcher goes in, since it might
// be unable to return. An ordinary user may join namespaces only as a member of the user namespace
// that owns them, which a thread cannot enter, and no process can leave again. So a child goes in,
// clones the worker as a child of the launcher (CLONE_PARENT), and ends.
#pragma once

#include "spawn/child/birth.h"

namespace brood {

inline constexpr std::size_t kHelperJoins = 8;
// The index of a failure to join SetnsHelperRequest::joins[i] is so much more than i, which tells
// it from an operation of the worker's.
inline constexpr std::uint16_t kHelperJoinsAt = 0x1000;

// In memory that launcher, setns helper and worker share.
struct SetnsHelperRequest {
  BirthRequest birth;
  int pidfd = -1;  // the worker's, in the launcher's descriptor table
  struct Join {
    int fd = -1;
    std::uint64_t flag = 0;  // CLONE_NEW*
  } joins[kHelperJoins];     // in this order, the user namespace first; up to the first without fd
  sys::Result result = 0;
};

// BirthWorker by a setns helper that runs on `stack` (kWorkerStackBytes, writable). Returns once
// the setns helper has ended and been reaped. `birth` must ask for CLONE_PIDFD; its `pidfd` is set
// here.
sys::Result BirthBySetnsHelper(SetnsHelperRequest& request, char* stack);

}  // namespace brood
