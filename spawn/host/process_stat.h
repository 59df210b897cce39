// SPDX-License-Identifier: Apache-2.0

// What /proc/PID/stat tells of a process (proc_pid_stat(5)).
#pragma once

#include <cstdint>
#include <optional>

namespace brood {

struct ProcessStat {
  char state = 0;  // 'Z': it waits to be reaped
  int parent = 0;
  int group = 0;
  int session = 0;
  std::uint64_t start_ticks = 0;  // with the pid, a name that is not used again
};

// None for a process that is gone. Thread-safe.
std::optional<ProcessStat> StatOf(int pid);

}  // namespace brood
