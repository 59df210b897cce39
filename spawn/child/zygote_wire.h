// SPDX-License-Identifier: Apache-2.0

// The protocol between a launcher and its zygote.
//
//   memory   one shared memfd: Region, the plan, one page for each slot (its mailbox, then argv and
//            env of its launch), and kBigMessages areas for launches that need more. One page, so
//            that both sides have it mapped long before a launch
//   control  a SEQPACKET socket. launcher -> zygote: one message is an array of slot numbers, each
//            a worker to be cloned from its mailbox, with kNewSlot in new namespaces: the launcher
//            has ended those that the slot had. End-of-file means that the launcher is gone: the
//            zygote kills the parent cgroup and exits. zygote -> launcher: the pidfd of
//            each worker that goes on to exec without parking first (HandedWorker).
//   notify   an eventfd. Workers that park or fail, and who refuses to clone one, add one.
//   lanes    SEQPACKET sockets. launcher -> worker: one byte with three descriptors (SCM_RIGHTS)
//            for the worker whose LaunchRecord names the lane.
//
// Freestanding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spawn/child/birth.h"
#include "spawn/child/mailbox.h"
#include "spawn/failure.h"

namespace brood {

inline constexpr std::uint32_t kRegionMagic = 0x62726f64;  // "brod"
inline constexpr std::uint32_t kRegionVersion = 2;
inline constexpr std::size_t kSlotBytes = 4096;
inline constexpr std::size_t kSmallMessageAt = (sizeof(Mailbox) + 63) & ~std::size_t{63};
inline constexpr std::size_t kSmallMessageBytes = kSlotBytes - kSmallMessageAt;
inline constexpr std::size_t kBigMessageBytes = 2U << 20;
inline constexpr std::size_t kBigMessages = 8;

inline constexpr std::uint32_t kNewSlot = 1U << 31;
inline constexpr std::size_t kMaxOrders = 256;  // slot numbers in one control message

enum class ZygoteState : std::uint32_t { kStarting = 0, kReady = 1, kFailed = 2 };

struct Region {
  std::uint32_t magic = kRegionMagic;
  std::uint32_t version = kRegionVersion;
  std::uint64_t bytes = 0;  // of the whole memfd
  std::uint64_t plan_offset = 0;
  std::uint64_t slot_offset = 0;
  std::uint64_t big_offset = 0;  // of the big message areas
  std::uint32_t slot_count = 0;
  std::uint32_t tree_count = 0;  // descriptors from ZygoteFd::kFirstPlanFd on: trees, then fds
  std::uint32_t fd_count = 0;
  std::uint32_t state = 0;        // ZygoteState, futex (zygote)
  Failure failure;                // of a template operation (zygote, before kFailed)
  std::uint32_t failed_list = 0;  // 0: tmpl, 1: home
  std::uint32_t reserved = 0;
  std::uint64_t base = 0;  // where the zygote mapped the region (zygote, before kReady)
};
static_assert(std::is_trivially_copyable_v<Region>);
static_assert(std::has_unique_object_representations_v<Region>);  // no padding, as in a plan

// Descriptor numbers in a zygote. It has these and no others.
struct ZygoteFd {  // 0, 1 and 2 are /dev/null
  static constexpr int kControl = 3;
  static constexpr int kRegion = 4;
  static constexpr int kNotify = 5;
  static constexpr int kParent = 6;  // cgroup directory; /dev/null where there is no parent cgroup
  static constexpr int kProc = 7;    // the launcher's /proc
  static constexpr int kLauncher = 8;  // pidfd
  static constexpr int kFirstLane = 9;
  static constexpr int kFirstPlanFd = kFirstLane + kMaxLanes;
};

// What the launcher says to a child that waits for its id maps.
enum class ZygoteMaps : std::uint32_t { kAwaited = 0, kWritten = 1, kRefused = 2 };

// How the launcher's child becomes a zygote: `sources[i]` becomes descriptor i, everything else is
// closed, and the executable in `image` is run.
struct ZygoteExec {
  std::uint32_t maps = static_cast<std::uint32_t>(ZygoteMaps::kWritten);  // futex (launcher)
  std::uint64_t capabilities = 0;  // those of its own user namespace, to be taken through exec
  int* sources = nullptr;          // written over
  int count = 0;
  int image = -1;
  Failure failure;  // set when it could not
};
// The body of that child. `argument` is a ZygoteExec in memory it shares with the launcher.
[[noreturn]] void ZygoteExecMain(void* argument);

}  // namespace brood
