// SPDX-License-Identifier: Apache-2.0

// What a process inherits through clone and exec beside its isolation, and what a worker must not
// inherit: how it is scheduled, which processors and memory it may use, how likely the OOM killer
// chooses it, how its personality changes system calls. Freestanding.
//
// A zygote puts itself back to the defaults once, and its workers inherit those. For a cold worker
// its launcher looks once which of its own differ (OddAttributes), and only those are put back.
// What takes privilege over the machine is put back by the process that clones the worker, since
// the worker has none in a user namespace of its own; what a process may only do to itself, by the
// worker.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spawn/child/syscalls.h"

namespace brood {

enum class Attribute : std::uint8_t {
  kScheduler,     // SCHED_OTHER
  kNice,          // 0
  kAffinity,      // all processors of the cpuset
  kIoPriority,    // none: what nice says
  kOomScore,      // 0
  kTimerSlack,    // 50 us
  kPersonality,   // PER_LINUX
  kMemoryPolicy,  // MPOL_DEFAULT
  kCount
};
inline constexpr std::size_t kAttributeCount = static_cast<std::size_t>(Attribute::kCount);

constexpr std::uint32_t Bit(Attribute attribute) {
  return std::uint32_t{1} << static_cast<unsigned>(attribute);
}
inline constexpr std::uint32_t kAllAttributes = (std::uint32_t{1} << kAttributeCount) - 1;
// What a process can change of itself alone, and without privilege.
inline constexpr std::uint32_t kOwnAttributes =
    Bit(Attribute::kTimerSlack) | Bit(Attribute::kPersonality) | Bit(Attribute::kMemoryPolicy);

// The errno of each that could not be put back; 0: it was, or had not to be.
struct AttributeErrors {
  std::int16_t error[kAttributeCount] = {};
};

// Puts those of the set `which` back to the defaults, of process `pid` or, with 0, of the caller.
// `proc_fd` is a /proc in whose pid namespace `pid` counts. The OOM killer's score counts for all
// who share the process's memory.
void ResetAttributes(std::uint32_t which, sys::Result pid, int proc_fd, AttributeErrors& errors);

}  // namespace brood
