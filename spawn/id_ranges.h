// Host ids that nobody else uses, one range a worker.
//
// Ranges lie above all that distributions, systemd and subordinate-id tools hand out
// (systemd's UIDS-GIDS table: 0x70000000 and up are free). Launchers on one machine keep apart by
// locking bytes of /run/brood/id-ranges, one byte a range: the kernel drops the locks of a launcher
// that dies.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/unique_fd.h"

namespace brood {

inline constexpr std::uint32_t kIdsPerRange = 65536;
inline constexpr std::uint64_t kFirstRangeId = 0x70000000;
inline constexpr std::uint64_t kEndRangeId = 0xf0000000;
inline constexpr std::uint32_t kRangeCount =
    static_cast<std::uint32_t>((kEndRangeId - kFirstRangeId) / kIdsPerRange);  // 32,768

// A block of ranges held for this launcher. Move-only; thread-compatible.
class IdRanges {
 public:
  // Locks `count` neighbouring free ranges. kResourceExhausted when so many are not free;
  // kPermissionDenied when /run/brood cannot be used.
  static absl::StatusOr<IdRanges> Lock(std::uint32_t count);

  IdRanges() = default;

  // First host id of a range not in use; kResourceExhausted when all are.
  absl::StatusOr<std::uint32_t> Take();
  // Gives one back. Its worker must be reaped, with everything it started.
  void Return(std::uint32_t first_id) { free_.push_back(first_id); }
  bool all_taken() const { return free_.empty(); }

 private:
  UniqueFd lock_;
  std::vector<std::uint32_t> free_;
};

}  // namespace brood
