#include "spawn/id_ranges.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

#include "spawn/status.h"

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
  const auto number = [](const std::string& text) -> std::uint64_t {
    std::uint64_t value = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return 0;
      value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return value;
  };
  for (const char* file : {"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"}) {
    const bool subordinate = std::string_view(file).starts_with("/etc/sub");
    std::ifstream lines(file);
    std::string line;
    while (std::getline(lines, line)) {
      std::vector<std::string> fields;
      std::size_t start = 0;
      for (std::size_t colon = 0; colon != std::string::npos; start = colon + 1) {
        colon = line.find(':', start);
        fields.push_back(line.substr(start, colon - start));
      }
      if (fields.size() < 3) continue;
      const std::uint64_t first = number(fields[subordinate ? 1 : 2]);
      const std::uint64_t count = subordinate ? number(fields[2]) : 1;
      if (first + count > kFirstRangeId) taken.push_back({first, first + count});
    }
  }
  return taken;
}

bool Overlaps(const std::vector<Interval>& taken, std::uint32_t range) {
  const std::uint64_t first = kFirstRangeId + std::uint64_t{range} * kIdsPerRange;
  for (const Interval& interval : taken) {
    if (interval.first < first + kIdsPerRange && first < interval.end) return true;
  }
  return false;
}

// Open file description locks: they belong to `fd`, not to the process, so a library that opens
// and closes the same file cannot drop them.
bool TryLock(int fd, std::uint32_t first, std::uint32_t count, std::uint32_t& conflict_end) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = count;
  if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
  conflict_end = first + count;
  if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_len > 0) {
    conflict_end = static_cast<std::uint32_t>(lock.l_start + lock.l_len);
  }
  return false;
}

}  // namespace

absl::StatusOr<IdRanges> IdRanges::Lock(std::uint32_t count) {
  if (mkdir(kDirectory, 0755) != 0 && errno != EEXIST) {
    return ErrnoError(errno, "making {}, where launchers keep their id ranges apart", kDirectory);
  }
  IdRanges ranges;
  ranges.lock_.reset(open(kLockFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!ranges.lock_.valid()) {
    return ErrnoError(errno, "opening {}, where launchers keep their id ranges apart", kLockFile);
  }
  const std::vector<Interval> taken = TakenByAdministrator();
  std::uint32_t first = 0;
  while (first + count <= kRangeCount) {
    bool clash = false;
    for (std::uint32_t i = 0; i < count && !taken.empty(); ++i) {
      if (!Overlaps(taken, first + i)) continue;
      first += i + 1;
      clash = true;
      break;
    }
    if (clash) continue;
    std::uint32_t conflict_end = 0;
    if (TryLock(ranges.lock_.get(), first, count, conflict_end)) {
      ranges.free_.reserve(count);
      for (std::uint32_t i = count; i > 0; --i) {
        ranges.free_.push_back(static_cast<std::uint32_t>(
            kFirstRangeId + std::uint64_t{first + i - 1} * kIdsPerRange));
      }
      return ranges;
    }
    first = conflict_end > first ? conflict_end : first + 1;
  }
  return Error(absl::StatusCode::kResourceExhausted,
               "no {} neighbouring id ranges are free (of {} between {} and {}); other launchers "
               "hold them: see who has {} open",
               count, kRangeCount, kFirstRangeId, kEndRangeId, kLockFile);
}

absl::StatusOr<std::uint32_t> IdRanges::Take() {
  if (free_.empty()) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "every id range of this launcher is in use by a worker");
  }
  const std::uint32_t first = free_.back();
  free_.pop_back();
  return first;
}

}  // namespace brood
