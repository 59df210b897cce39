// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/block_device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>

#include "spawn/base/file_at.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// "8:0", with nothing behind it but a newline.
std::optional<BlockDevice> ParseNumbers(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  BlockDevice device;
  const char* const end = text.data() + text.size();
  const auto major = std::from_chars(text.data(), end, device.major);
  if (major.ec != std::errc() || major.ptr == end || *major.ptr != ':') return std::nullopt;
  const auto minor = std::from_chars(major.ptr + 1, end, device.minor);
  if (minor.ec != std::errc() || minor.ptr != end) return std::nullopt;
  return device;
}

}  // namespace

absl::StatusOr<BlockDevice> DiskOf(const std::string& text) {
  std::optional<BlockDevice> device = ParseNumbers(text);
  if (!device) {
    struct stat info {};
    if (stat(text.c_str(), &info) != 0) {
      const int error = errno;
      return ErrnoError(error, "looking for the disk of {}", text);
    }
    const dev_t number = S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev;
    device = BlockDevice{major(number), minor(number)};
    if (device->major == 0) {
      return InvalidError(
          "{} lies on no single disk (its filesystem has the number 0:{}, as tmpfs, "
          "overlayfs, btrfs and network filesystems have): name the disk itself, as "
          "/dev/sda or 8:0 (lsblk lists them)",
          text, device->minor);
    }
  }
  const std::string entry = fmt::format("/sys/dev/block/{}:{}", device->major, device->minor);
  if (access((entry + "/partition").c_str(), F_OK) != 0) return *device;
  // A partition's directory lies in its disk's.
  std::string numbers;
  const int error = ReadFileAt(AT_FDCWD, (entry + "/../dev").c_str(), numbers);
  if (error != 0) return ErrnoError(error, "looking for the disk of the partition {}", text);
  if (const std::optional<BlockDevice> disk = ParseNumbers(numbers)) return *disk;
  return Error(absl::StatusCode::kNotFound, "the partition {} has no disk in {}/..", text, entry);
}

}  // namespace brood
