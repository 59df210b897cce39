// SPDX-License-Identifier: Apache-2.0

// Host ids that no other process uses, one range for each worker.
//
// Ranges lie above all that distributions, systemd and subordinate-id tools hand out
// (systemd's UIDS-GIDS table: 0x70000000 and up are free). Launchers on one machine keep apart by
// locking bytes of /run/brood/id-ranges, one byte for each range: the kernel drops the locks of a
// launcher that dies. A launcher locks ranges in blocks when its workers need more than it has, and
// unlocks a block when none of them uses it any more.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood {

inline constexpr std::uint32_t kIdsPerRange = 65536;
inline constexpr std::uint64_t kFirstRangeId = 0x70000000;
inline constexpr std::uint64_t kEndRangeId = 0xf0000000;
inline constexpr std::uint32_t kRangeCount =
    static_cast<std::uint32_t>((kEndRangeId - kFirstRangeId) / kIdsPerRange);  // 32,768

// The ranges of this launcher. Move-only; thread-compatible.
class IdRanges {
 public:
  static constexpr std::uint32_t kBlock = 64;

  // Holds none yet; takes `block` at a time. kPermissionDenied when /run/brood cannot be used.
  static absl::StatusOr<IdRanges> Open(std::uint32_t block = kBlock);

  IdRanges() = default;
  bool is_open() const { return lock_.valid(); }

  // First host id of a range not in use. Locks another block when there is none;
  // kResourceExhausted when there is none.
  absl::StatusOr<std::uint32_t> Take();
  // Gives one back. Its worker must be reaped, with everything it started. Unlocks its block when
  // all of that is free and at least as many other ranges are too.
  void Return(std::uint32_t first_id);
  // Whether a range will be free when a worker of this launcher ends, and none is now.
  bool all_taken() const { return free_.empty() && in_use_ > 0; }

 private:
  struct Block {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::uint32_t in_use = 0;
  };
  Block& BlockOf(std::uint32_t range);
  absl::Status LockBlock();

  UniqueFd lock_;
  std::uint32_t block_ = kBlock;
  std::uint32_t in_use_ = 0;
  std::vector<Block> blocks_;        // by their first range
  std::vector<std::uint32_t> free_;  // ranges
  std::uint64_t search_after_ns_ = 0;
};

// What all launchers of this machine hold, free ones of their blocks among it.
struct IdRangesHeld {
  std::uint32_t ranges = 0;
  std::vector<int> launchers;  // the processes, as far as /proc shows their descriptors
};
absl::StatusOr<IdRangesHeld> HeldIdRanges();

}  // namespace brood
