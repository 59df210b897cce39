// Descriptors, and what inotify counts apart from them.
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "bench/limits/unit.h"
#include "spawn/status.h"
#include "spawn/unique_fd.h"

namespace brood::limits {
namespace {

// Those that count: the limit is on numbers, and one that lies above it already takes no room.
std::uint64_t DescriptorsBelow(std::uint64_t maximum) {
  std::uint64_t count = 0;
  for (std::uint64_t fd = 0; fd < maximum; ++fd) {
    if (fcntl(static_cast<int>(fd), F_GETFD) >= 0) ++count;
  }
  return count;
}

class Nofile : public Pusher {
 public:
  absl::Status Confine(std::uint64_t maximum) override {
    before_ = DescriptorsBelow(maximum);
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoError(errno, "reading RLIMIT_NOFILE");
    // The hard one stays, so that looking at the end can be given one more.
    limit.rlim_cur = maximum;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      return Error(absl::StatusCode::kUnavailable, "setting RLIMIT_NOFILE to {}: {}", maximum,
                   ErrnoText(errno));
    }
    maximum_ = maximum;
    return absl::OkStatus();
  }
  std::uint64_t ThereBefore() const override { return before_; }
  int AddOne() override {
    const int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return errno;
    held_.emplace_back(fd);
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kOpen, .error = error};
  }
  void Release() override { held_.clear(); }
  bool Drained() override { return DescriptorsBelow(maximum_) == before_; }

 private:
  std::uint64_t before_ = 0;
  std::uint64_t maximum_ = 0;
  std::vector<UniqueFd> held_;
};

absl::Status SetInotify(const char* name, std::uint64_t maximum) {
  const std::string file = std::string("/proc/sys/user/max_inotify_") + name;
  const int error = WriteFile(file, std::to_string(maximum));
  return error == 0 ? absl::OkStatus() : ErrnoError(error, "writing {} to {}", maximum, file);
}

class InotifyInstances : public Pusher {
 public:
  absl::Status Confine(std::uint64_t maximum) override {
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    return SetInotify("instances", maximum);
  }
  int AddOne() override {
    UniqueFd fd(inotify_init1(IN_CLOEXEC));
    if (!fd.valid()) return errno;
    held_.push_back(std::move(fd));
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t count) const override {
    return {.call = LimitedCall::kInotifyInit, .error = error, .made = count};
  }
  void Release() override { held_.clear(); }
  bool Drained() override {
    if (!SetInotify("instances", 1).ok()) return false;
    return UniqueFd(inotify_init1(IN_CLOEXEC)).valid();
  }

 private:
  std::vector<UniqueFd> held_;
};

}  // namespace

std::vector<Unit> FileUnits() {
  return {{"nofile", "RLIMIT_NOFILE", "fcntl(F_DUPFD_CLOEXEC)", "descriptors of a process", 0,
           [] { return std::make_unique<Nofile>(); }},
          {"inotify-instances", "user.max_inotify_instances", "inotify_init1",
           "inotify instances that one user has in one user namespace", 0,
           [] { return std::make_unique<InotifyInstances>(); }}};
}

}  // namespace brood::limits
