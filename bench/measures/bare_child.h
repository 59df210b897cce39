// SPDX-License-Identifier: Apache-2.0

// What a benchmark's bare child does: with nothing of brood's, only the kernel's own calls.
//
// Freestanding, as all code between clone3 and exec: the child shares its parent's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spawn/child/syscalls.h"

namespace brood::bench {

enum class BareStep : std::uint32_t {
  kNone,
  kEnter,  // setns
  kUnshare,
  kIdMap,  // writing uid_map
  kLoopback,
  kPropagation,  // making the mount tree private
  kProc,
  kTmpfs,
  kPivot,
  kRlimit,
  kCapability,
  kNoNewPrivs,
  kFilter,
  kHold,
  kExec,
};

// Plain data, in memory that parent and child share whatever the clone flags. All steps are done in
// the order given here; what is left empty is not done.
struct BareChild {
  struct Entry {
    int fd = -1;
    std::uint64_t flag = 0;
  };
  Entry enter[8];  // namespaces to enter
  std::uint32_t enter_count = 0;
  std::uint32_t wait_forever = 0;  // then do nothing but hold what it was born with
  std::uint64_t unshare_flags = 0;
  const char* uid_map = nullptr;  // a line of it
  std::size_t uid_map_bytes = 0;
  bool loopback = false;           // bring lo up
  bool mounts = false;             // private propagation, a new /proc, a tmpfs on /tmp
  const char* pivot_to = nullptr;  // a mount point to make the root of all, the old root let go
  std::uint32_t rlimits = 0;       // so many limits, to values that they mostly have already
  bool drop_capabilities = false;  // all of them, from the bounding set, too
  bool no_new_privs = false;
  const kernel::SeccompFilter* filter = nullptr;
  int parent = 0;              // who made it; for hold_fd
  int hold_fd = -1;            // then wait for its end of file
  const char* path = nullptr;  // to execute; null: exit with 0
  const char* const* argv = nullptr;
  const char* const* envp = nullptr;

  // The child's answer.
  BareStep failed = BareStep::kNone;
  std::int32_t error = 0;
};

// `argument` is a BareChild.
[[noreturn]] void BareChildMain(void* argument);

}  // namespace brood::bench
