// SPDX-License-Identifier: Apache-2.0

// What a cgroup has used, and how often its limits were met.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace brood {

// Bytes and operations of all disks together (io.stat). Writes count when they reach the disk,
// which may be after the worker's end.
struct IoUsage {
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t read_ops = 0;
  std::uint64_t write_ops = 0;
};

// Counts of a cgroup and of all below it, since it was made. Absent where the kernel does not
// report them: the controller is missing, or the file came with a later kernel.
struct LeafUsage {
  std::optional<std::uint64_t> cpu_us = {};  // cpu.stat usage_usec; needs no controller
  // Of cpu.max: periods in which anything ran, periods in which it was throttled, and for how long,
  // summed over all processors.
  std::optional<std::uint64_t> cpu_periods = {};
  std::optional<std::uint64_t> cpu_throttled_periods = {};
  std::optional<std::uint64_t> cpu_throttled_us = {};

  std::optional<std::uint64_t> memory_peak_bytes = {};  // memory.peak, Linux 5.19
  std::optional<std::uint64_t> memory_high_events =
      {};                                        // memory.events high: slowed at memory.high
  std::optional<std::uint64_t> oom_events = {};  // oom: memory.max met, nothing left to reclaim
  std::optional<std::uint64_t> oom_kills = {};   // oom_kill: processes killed, for any limit
  std::optional<std::uint64_t> oom_group_kills = {};  // oom_group_kill: all killed at once, 5.17

  std::optional<std::uint64_t> pids_peak = {};     // pids.peak, Linux 6.1
  std::optional<std::uint64_t> pids_refused = {};  // pids.events max; see LimitsMet

  std::optional<IoUsage> io = {};
};

// Whose memory limit killed a process of a cgroup.
enum class OomCause : std::uint8_t {
  kOwnLimit,  // of the cgroup itself, or of one that the worker has made in it
  kAbove,     // of a cgroup above, or the machine's memory
};
// "own_limit", "above": stable names, used in JSON.
std::string_view OomCauseName(OomCause cause);

// None when no process was killed, or the kernel does not report it. Pure.
std::optional<OomCause> CauseOfOom(const LeafUsage& usage);

}  // namespace brood
