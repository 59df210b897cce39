// SPDX-License-Identifier: Apache-2.0

// Descriptors and open files, and what inotify counts apart from them.
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pool/stress/unit.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

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
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoError(errno, "reading RLIMIT_NOFILE");
    maximum_ = wanted.value_or(limit.rlim_max);
    before_ = DescriptorsBelow(maximum_);
    // The hard one stays, so that looking at the end can be given one more.
    limit.rlim_cur = maximum_;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      return Error(absl::StatusCode::kUnavailable, "setting RLIMIT_NOFILE to {}: {}", maximum_,
                   ErrnoText(errno));
    }
    return maximum_;
  }
  std::uint64_t ThereBefore() const override { return before_; }
  int AddOne() override {
    const int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return errno;
    held_.emplace_back(fd);
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    LimitQuestion question{.call = LimitedCall::kOpen, .error = error};
    question.rlimit = maximum_;
    return question;
  }
  void Release() override { held_.clear(); }
  bool Drained() override { return DescriptorsBelow(maximum_) == before_; }

 private:
  std::uint64_t before_ = 0;
  std::uint64_t maximum_ = 0;
  std::vector<UniqueFd> held_;
};

class FileMax : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    if (wanted) {
      return Error(absl::StatusCode::kUnavailable,
                   "fs.file-max is a limit of the whole machine only; see --host");
    }
    before_ = FirstNumberOf("/proc/sys/fs/file-nr").value_or(0);
    const std::uint64_t maximum = FirstNumberOf("/proc/sys/fs/file-max").value_or(kNoMaximum);
    // Who may raise it is exempt from it (CAP_SYS_ADMIN, fs/file_table.c).
    BROOD_RETURN_IF_ERROR(BecomeNobodyElse());
    return maximum;
  }
  std::uint64_t ThereBefore() const override { return before_; }
  int AddOne() override {
    UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return errno;
    held_.push_back(std::move(fd));
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kOpen, .error = error};
  }
  void Release() override { held_.clear(); }
  bool Drained() override { return true; }  // closing is at once

 private:
  std::uint64_t before_ = 0;
  std::vector<UniqueFd> held_;
};

// /proc/sys/user/max_inotify_*, of a user namespace of its own.
class Inotify : public Pusher {
 protected:
  absl::StatusOr<std::uint64_t> Enter(const char* name, std::optional<std::uint64_t> wanted) {
    file_ = std::string("/proc/sys/user/max_inotify_") + name;
    const std::uint64_t machine = FirstNumberOf(file_).value_or(kNoMaximum);
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    if (!wanted) return machine;
    if (!Set(*wanted)) return ErrnoError(errno, "writing {} to {}", *wanted, file_);
    return *wanted;
  }
  bool Set(std::uint64_t maximum) const {
    errno = WriteFile(file_, std::to_string(maximum));
    return errno == 0;
  }

 private:
  std::string file_;
};

class InotifyInstances : public Inotify {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    return Enter("instances", wanted);
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
  bool Drained() override { return Set(1) && UniqueFd(inotify_init1(IN_CLOEXEC)).valid(); }

 private:
  std::vector<UniqueFd> held_;
};

class InotifyWatches : public Inotify {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    BROOD_ASSIGN_OR_RETURN(const std::uint64_t maximum, Enter("watches", wanted));
    // One watch of an instance is one inode, so as many files as watches are needed.
    BROOD_RETURN_IF_ERROR(EnterMountNamespace());
    instance_.reset(inotify_init1(IN_CLOEXEC));
    if (!instance_.valid()) return ErrnoError(errno, "making an inotify instance");
    return maximum;
  }
  int AddOne() override {
    const std::string file = fmt::format("/tmp/{}", count_);
    if (!UniqueFd(open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)).valid()) return errno;
    if (inotify_add_watch(instance_.get(), file.c_str(), IN_OPEN) < 0) return errno;
    ++count_;
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t count) const override {
    return {.call = LimitedCall::kInotifyWatch, .error = error, .made = count};
  }
  void Release() override { instance_.reset(); }
  bool Drained() override {
    const UniqueFd instance(inotify_init1(IN_CLOEXEC));
    return Set(1) && inotify_add_watch(instance.get(), "/tmp/0", IN_OPEN) >= 0;
  }

 private:
  UniqueFd instance_;
  std::uint64_t count_ = 0;
};

}  // namespace

std::vector<Unit> FileUnits() {
  return {{.name = "nofile",
           .limit = "RLIMIT_NOFILE",
           .call = "fcntl(F_DUPFD_CLOEXEC)",
           .what = "descriptors of a process",
           .where = "setrlimit(RLIMIT_NOFILE), at most /proc/sys/fs/nr_open",
           .cost = {.descriptors = 1},
           .make = [] { return std::make_unique<Nofile>(); }},
          {.name = "file-max",
           .limit = "fs.file-max",
           .call = "open",
           .what = "open files of the whole machine",
           .where = "/proc/sys/fs/file-max",
           .cost = {.descriptors = 1, .bytes = 256},
           .make = [] { return std::make_unique<FileMax>(); }},
          {.name = "inotify-instances",
           .limit = "user.max_inotify_instances",
           .call = "inotify_init1",
           .what = "inotify instances that one user has in one user namespace",
           .where = "/proc/sys/user/max_inotify_instances",
           .cost = {.descriptors = 1, .bytes = 1'000},
           .make = [] { return std::make_unique<InotifyInstances>(); }},
          {.name = "inotify-watches",
           .limit = "user.max_inotify_watches",
           .call = "inotify_add_watch",
           .what = "inotify watches that one user has in one user namespace",
           .where = "/proc/sys/user/max_inotify_watches",
           .cost = {.bytes = 2'000},
           .make = [] { return std::make_unique<InotifyWatches>(); }}};
}

}  // namespace brood::limits
