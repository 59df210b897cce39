// SPDX-License-Identifier: Apache-2.0

// How many mounts one mount namespace may have.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "pool/stress/unit.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood::limits {
namespace {

class Mounts : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t>) override {
    const std::uint64_t maximum = FirstNumberOf("/proc/sys/fs/mount-max").value_or(0);
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    BROOD_RETURN_IF_ERROR(EnterMountNamespace());
    if (mkdir(kSource, 0700) != 0 || mount("tmpfs", kSource, "tmpfs", 0, nullptr) != 0) {
      return Error(absl::StatusCode::kUnavailable, "mounting {}: {}", kSource, ErrnoText(errno));
    }
    before_ = Count();
    return maximum;
  }
  std::uint64_t ThereBefore() const override { return before_; }
  int AddOne() override {
    // Each on a directory of its own: a stack of them on one would be walked by every look-up. And
    // of a mount that has none below it, all of which a bind looks through (has_locked_children).
    const std::string point = fmt::format("/tmp/{}", count_);
    if (mkdir(point.c_str(), 0700) != 0) return errno;
    if (mount(kSource, point.c_str(), nullptr, MS_BIND, nullptr) != 0) return errno;
    ++count_;
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kMount, .error = error};
  }
  void Release() override { umount2("/tmp", MNT_DETACH); }
  bool Drained() override { return Count() < before_; }

 private:
  static constexpr const char* kSource = "/tmp/source";

  static std::uint64_t Count() {
    const auto limits = LimitsBehind({.call = LimitedCall::kMount, .error = ENOSPC});
    return limits.empty() ? 0 : limits.front().used.value_or(0);
  }

  std::uint64_t before_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace

std::vector<Unit> MountUnits() {
  return {{.name = "mounts",
           .limit = "fs.mount-max",
           .call = "mount(MS_BIND)",
           .what = "mounts of one mount namespace",
           .where = "/proc/sys/fs/mount-max",
           .cost = {.bytes = 2'000},
           .make = [] { return std::make_unique<Mounts>(); }}};
}

}  // namespace brood::limits
