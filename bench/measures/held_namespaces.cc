// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/held_namespaces.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {
namespace {

absl::Status WriteMap(const std::string& path, std::string_view map) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() || write(file.get(), map.data(), map.size()) < 0) {
    return ErrnoError(errno, "writing {}", path);
  }
  return absl::OkStatus();
}

// Tells what unshare said, and waits for its end.
[[noreturn]] void Hold(int told) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::uint64_t said =
      unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 1 : static_cast<std::uint64_t>(errno) + 1;
  (void)!write(told, &said, sizeof(said));
  for (;;) pause();
}

}  // namespace

absl::StatusOr<std::unique_ptr<HeldNamespaces>> HeldNamespaces::Create() {
  std::unique_ptr<HeldNamespaces> held(new HeldNamespaces);
  BROOD_ASSIGN_OR_RETURN(held->ids_, IdRanges::Open(/*block=*/1));
  BROOD_ASSIGN_OR_RETURN(held->first_id_, held->ids_.Take());
  const UniqueFd told(eventfd(0, EFD_CLOEXEC));
  if (!told.valid()) return ErrnoError(errno, "making an eventfd");
  held->pid_ = fork();
  if (held->pid_ == 0) Hold(told.get());
  if (held->pid_ < 0) return ErrnoError(errno, "forking a holder of namespaces");
  std::uint64_t said = 0;
  if (read(told.get(), &said, sizeof(said)) != sizeof(said)) {
    return ErrnoError(errno, "hearing of a holder of namespaces");
  }
  if (said != 1) {
    return ErrnoError(static_cast<int>(said) - 1, "making a user and a network namespace");
  }
  const std::string map = fmt::format("0 {} {}", held->first_id_, kIdsPerRange);
  for (const char* const file : {"gid_map", "uid_map"}) {
    BROOD_RETURN_IF_ERROR(WriteMap(fmt::format("/proc/{}/{}", held->pid_, file), map));
  }
  return held;
}

HeldNamespaces::~HeldNamespaces() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (first_id_ != 0) ids_.Return(first_id_);
}

NamespaceChoice HeldNamespaces::Join(NamespaceKind kind) const {
  return {NamespaceMode::kJoin, fmt::format("/proc/{}/ns/{}", pid_, NamespaceName(kind))};
}

}  // namespace brood::bench
