// SPDX-License-Identifier: Apache-2.0

// Memory kept aside for the moment when there is none left.
//
// An allocation that fails would end the daemon and all its commands. Then operator new is given
// pieces of the reserve instead, so that what is under way can be finished. Code that takes new
// work asks Short(), and refuses it until the reserve is whole again.
#pragma once

namespace brood {

// One at a time in a process: it takes over std::new_handler. It costs address space, not memory,
// so it helps against `ulimit -v` and strict overcommit, and not against the OOM killer.
class MemoryReserve {
 public:
  MemoryReserve();
  ~MemoryReserve();
  MemoryReserve(const MemoryReserve&) = delete;
  MemoryReserve& operator=(const MemoryReserve&) = delete;

  // Whether a part has been used up and cannot be had again. Any thread.
  static bool Short();
};

}  // namespace brood
