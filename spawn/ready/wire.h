// SPDX-License-Identifier: Apache-2.0

// The words between a launcher and the process of a forked function.
//
// One SEQPACKET socket, messages of one size. The process' pid 1 (`init`), the process itself and
// each clone of it speak on the same end:
//
//   process -> launcher   kReady, or kRefused and the end
//   launcher -> process   kPlan, once, with a sealed memfd: the plan of a call (spawn/child/plan.h)
//   launcher -> process   kFork, with stdin, stdout, stderr and, if it has one, the call's cgroup
//   process -> launcher   kForked with the clone's pidfd, or kFailed
//   clone -> launcher     kRunning, or kFailed; then it closes its copy
//   init -> launcher      kEnded, for each clone, while its number is still its own
//
// End-of-file tells the process that it is no longer needed, and it exits. Nothing that comes
// from the process is trusted further than its own calls go. Freestanding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spawn/failure.h"

namespace brood::ready {

inline constexpr std::uint32_t kVersion = 1;
// The environment variable that tells a process that it has such a socket.
inline constexpr char kMark[] = "BROOD_FORKED";
// What the process is started with as 0, 1 and 2: where its own output goes, this library, and the
// socket. A program into which nothing can be preloaded cannot read its stdin then, and ends.
inline constexpr int kOutputFd = 0;
inline constexpr int kLibraryFd = 1;
inline constexpr int kSocketFd = 2;
// What the process exits with when it cannot be forked.
inline constexpr int kRefusedStatus = 125;

enum class Kind : std::uint32_t {
  kReady,
  kRefused,
  kPlan,
  kFork,
  kForked,
  kFailed,
  kRunning,
  kEnded
};

struct Message {
  Kind kind = Kind::kReady;
  std::uint32_t version = kVersion;
  std::uint64_t call = 0;   // kFork, kForked, kFailed, kRunning
  std::int32_t pid = 0;     // kForked, kEnded: in the process' pid namespace
  std::int32_t code = 0;    // kEnded: CLD_*
  std::int32_t status = 0;  // kEnded: exit status or signal
  Failure failure;          // kFailed: the index is of the plan's operations
  std::int32_t reserved = 0;
  std::int64_t at_ns = 0;   // CLOCK_MONOTONIC: kForked, before the clone; kRunning, kEnded: now
  std::int64_t cpu_us = 0;  // kEnded: user and system time of it and all it has waited for
  std::int64_t max_rss_kib = 0;  // kEnded
  char text[192] = {};           // kRefused: why; a sentence without its end
};
static_assert(std::is_trivially_copyable_v<Message> && std::is_standard_layout_v<Message>);
static_assert(std::has_unique_object_representations_v<Message>);

// Most descriptors that one message carries.
inline constexpr std::size_t kMaxFds = 4;

}  // namespace brood::ready
