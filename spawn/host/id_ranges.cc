// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/id_ranges.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>

#include "spawn/base/numbers.h"
#include "spawn/base/split.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"

namespace brood {
namespace {

constexpr const char* kDirectory = "/run/brood";
constexpr const char* kLockFile = "/run/brood/id-ranges";

struct Interval {
  std::uint64_t first;
  std::uint64_t end;
};

// Ids that the administrator has given to somebody: users, groups, subordinate ranges.
std::vector<Interval> TakenByAdministrator() {
  std::vector<Interval> taken;
  for (const char* file : {"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"}) {
    const bool subordinate = std::string_view(file).starts_with("/etc/sub");
    const std::string text = TextOf(file);
    for (const std::string_view line : Split(text, '\n')) {
      const std::vector<std::string_view> fields = SplitAll(line, ':');
      if (fields.size() < 3) continue;
      const std::uint64_t first = ParseNumber(fields[subordinate ? 1 : 2]).value_or(0);
      const std::uint64_t count = subordinate ? ParseNumber(fields[2]).value_or(0) : 1;
      if (first + count > kFirstRangeId) taken.push_back({first, first + count});
    }
  }
  return taken;
}

// Where the first interval ends that `count` ranges from `first` on would overlap; nothing when
// they overlap none.
std::optional<std::uint32_t> EndOfOverlap(const std::vector<Interval>& taken, std::uint32_t first,
                                          std::uint32_t count) {
  const std::uint64_t id = kFirstRangeId + std::uint64_t{first} * kIdsPerRange;
  const std::uint64_t end = id + std::uint64_t{count} * kIdsPerRange;
  for (const Interval& interval : taken) {
    if (interval.first >= end || id >= interval.end) continue;
    return static_cast<std::uint32_t>(
        (std::min(interval.end, kEndRangeId) - kFirstRangeId + kIdsPerRange - 1) / kIdsPerRange);
  }
  return std::nullopt;
}

// Open file description locks: they belong to `fd`, not to the process, so a library that opens
// and closes the same file cannot drop them. What `fd` itself has locked is no conflict.
struct flock RangeLock(short type, std::uint32_t first, std::uint32_t count) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = count;
  return lock;
}

// A lock of somebody else's on any of these ranges; nothing when there is none.
std::optional<struct flock> Conflict(int fd, std::uint32_t first, std::uint32_t count) {
  struct flock lock = RangeLock(F_WRLCK, first, count);
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
  return lock;
}

bool TryLock(int fd, std::uint32_t first, std::uint32_t count) {
  struct flock lock = RangeLock(F_WRLCK, first, count);
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// The first `count` neighbouring ranges that nobody has, locked.
std::optional<std::uint32_t> LockNeighbours(int fd, const std::vector<Interval>& taken,
                                            std::uint32_t count) {
  std::uint32_t first = 0;
  while (first + count <= kRangeCount) {
    if (const auto end = EndOfOverlap(taken, first, count)) {
      first = *end;
    } else if (TryLock(fd, first, count)) {
      return first;
    } else if (const auto conflict = Conflict(fd, first, count); conflict && conflict->l_len > 0) {
      first = static_cast<std::uint32_t>(conflict->l_start + conflict->l_len);
    } else {
      ++first;  // it was unlocked meanwhile
    }
  }
  return std::nullopt;
}

// The kernel tells any conflicting lock, not the first one.
std::uint32_t CountLocked(int fd, std::uint32_t first, std::uint32_t end) {
  if (first >= end) return 0;
  const auto conflict = Conflict(fd, first, end - first);
  if (!conflict) return 0;
  const auto from = std::max(first, static_cast<std::uint32_t>(conflict->l_start));
  const std::uint32_t to =
      conflict->l_len == 0
          ? end
          : std::min(end, static_cast<std::uint32_t>(conflict->l_start + conflict->l_len));
  return CountLocked(fd, first, from) + (to - from) + CountLocked(fd, to, end);
}

// The processes that have the lock file open: /run/brood/id-ranges is nobody else's.
std::vector<int> ProcessesWithOpen(const struct stat& file) {
  namespace fs = std::filesystem;
  std::vector<int> found;
  std::error_code error;
  for (const fs::directory_entry& process : fs::directory_iterator("/proc", error)) {
    const std::string name = process.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    for (fs::directory_iterator fd(process.path() / "fd", error); !error && fd != fs::end(fd);
         fd.increment(error)) {
      struct stat status = {};
      if (stat(fd->path().c_str(), &status) != 0 || status.st_dev != file.st_dev ||
          status.st_ino != file.st_ino) {
        continue;
      }
      found.push_back(std::stoi(name));
      break;
    }
  }
  return found;
}

constexpr std::uint64_t kSearchPauseNs = 100'000'000;

std::uint64_t MonotonicNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

absl::Status NoneFree() {
  return Error(absl::StatusCode::kResourceExhausted,
               "all {} ranges of {} host ids between {} and {} are in use: end launchers or their "
               "workers (brood doctor tells which launchers have ranges)",
               kRangeCount, kIdsPerRange, kFirstRangeId, kEndRangeId);
}

}  // namespace

absl::StatusOr<IdRanges> IdRanges::Open(std::uint32_t block) {
  if (mkdir(kDirectory, 0755) != 0 && errno != EEXIST) {
    return ErrnoError(errno, "making {}, where launchers keep their id ranges apart", kDirectory);
  }
  IdRanges ranges;
  ranges.block_ = block;
  ranges.lock_.reset(open(kLockFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!ranges.lock_.valid()) {
    return ErrnoError(errno, "opening {}, where launchers keep their id ranges apart", kLockFile);
  }
  return ranges;
}

IdRanges::Block& IdRanges::BlockOf(std::uint32_t range) {
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), range,
                       [](std::uint32_t each, const Block& block) { return each < block.first; });
  return *std::prev(after);
}

absl::Status IdRanges::LockBlock() {
  if (!lock_.valid()) {
    return Error(absl::StatusCode::kFailedPrecondition, "this launcher may map no id ranges");
  }
  // A search that finds nothing has asked about every lock there is.
  if (MonotonicNs() < search_after_ns_) return NoneFree();
  std::vector<Interval> taken = TakenByAdministrator();
  for (const Block& block : blocks_) {
    const std::uint64_t id = kFirstRangeId + std::uint64_t{block.first} * kIdsPerRange;
    taken.push_back({id, id + std::uint64_t{block.count} * kIdsPerRange});
  }
  for (std::uint32_t count = block_; count > 0; count /= 2) {
    const std::optional<std::uint32_t> first = LockNeighbours(lock_.get(), taken, count);
    if (!first) continue;
    const auto after = std::find_if(blocks_.begin(), blocks_.end(),
                                    [&](const Block& block) { return block.first > *first; });
    blocks_.insert(after, {*first, count, 0});
    for (std::uint32_t i = count; i > 0; --i) free_.push_back(*first + i - 1);
    return absl::OkStatus();
  }
  search_after_ns_ = MonotonicNs() + kSearchPauseNs;
  return NoneFree();
}

absl::StatusOr<std::uint32_t> IdRanges::Take() {
  if (free_.empty()) BROOD_RETURN_IF_ERROR(LockBlock());
  const std::uint32_t range = free_.back();
  free_.pop_back();
  ++BlockOf(range).in_use;
  ++in_use_;
  return static_cast<std::uint32_t>(kFirstRangeId + std::uint64_t{range} * kIdsPerRange);
}

void IdRanges::Return(std::uint32_t first_id) {
  const auto range = static_cast<std::uint32_t>((first_id - kFirstRangeId) / kIdsPerRange);
  free_.push_back(range);
  --in_use_;
  Block& block = BlockOf(range);
  // One block's worth stays, or the next worker would lock what the last one unlocked.
  if (--block.in_use > 0 || free_.size() < std::size_t{block.count} + block_) return;
  struct flock unlock = RangeLock(F_UNLCK, block.first, block.count);
  if (fcntl(lock_.get(), F_OFD_SETLK, &unlock) != 0) return;
  std::erase_if(free_, [&](std::uint32_t each) {
    return each >= block.first && each < block.first + block.count;
  });
  blocks_.erase(blocks_.begin() + (&block - blocks_.data()));
}

absl::StatusOr<IdRangesHeld> HeldIdRanges() {
  IdRangesHeld held;
  const UniqueFd file(open(kLockFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) {
    if (errno == ENOENT) return held;
    return ErrnoError(errno, "opening {}, where launchers keep their id ranges apart", kLockFile);
  }
  held.ranges = CountLocked(file.get(), 0, kRangeCount);
  struct stat status = {};
  if (fstat(file.get(), &status) != 0) return ErrnoError(errno, "looking at {}", kLockFile);
  held.launchers = ProcessesWithOpen(status);
  std::erase(held.launchers, getpid());
  return held;
}

}  // namespace brood
