// SPDX-License-Identifier: Apache-2.0

#include "pool/core/ring.h"

#include <cerrno>
#include <string>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/host/switches.h"
#include "spawn/host/without.h"
#include "spawn/limits/limits.h"

namespace brood {
namespace {

// Who refuses io_uring, and what changes that.
std::string WhyRefused(int error) {
  if (error == EPERM) {
    if (const std::optional<Switch> off = RingSwitch()) return off->Sentence();
  }
  if (std::string limit = FullLimit({.call = LimitedCall::kRing, .error = error}); !limit.empty()) {
    return limit;
  }
  switch (error) {
    case EPERM:
    case EACCES:
      return "a seccomp filter or a security module refuses io_uring, as Docker's does "
             "(--security-opt seccomp=unconfined)";
    case ENOSYS:
      return "this kernel has no io_uring, or one that cannot wait with a timeout (Linux 5.11), or "
             "a filter hides it";
    default:
      return "io_uring could not be set up";
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(const Options& options) {
  int error = options.refusal;
  const bool without = Without(Way::kUring);
  if (error == 0 && !without) {
    if (std::unique_ptr<Ring> ring = WithUring(options.entries, error)) return ring;
  }
  BROOD_ASSIGN_OR_RETURN(std::unique_ptr<Ring> ring, WithEpoll());
  const std::string why =
      without && error == 0 ? fmt::format("{} says so", kWithoutVariable) : WhyRefused(error);
  ring->fallback_ = Fallback{"io_uring", "epoll: " + why, error};
  return ring;
}

}  // namespace brood
