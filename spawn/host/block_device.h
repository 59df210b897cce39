// SPDX-License-Identifier: Apache-2.0

// Which disk a path means, for limits of io.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace brood {

// A block device as the kernel numbers it. A plain value.
struct BlockDevice {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;

  friend bool operator==(const BlockDevice&, const BlockDevice&) = default;
};

// The whole disk that `text` means: "MAJ:MIN", a block device, or a path on a filesystem that lies
// on one. For a partition it is the disk with that partition, since io.max takes no other. Symbolic
// links are followed. kNotFound when there is no such path or device, kInvalidArgument when the
// filesystem lies on no single disk (tmpfs, overlayfs, btrfs, a network), or on one without number.
// Reads /sys/dev/block; where that is not mounted a device is taken for a whole disk.
absl::StatusOr<BlockDevice> DiskOf(const std::string& text);

}  // namespace brood
