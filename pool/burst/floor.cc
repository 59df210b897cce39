// SPDX-License-Identifier: Apache-2.0

#include "pool/burst/floor.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "pool/burst/floor_child.h"
#include "spawn/base/status.h"
#include "spawn/launch/launch.h"
#include "spawn/launch/reap.h"

namespace brood {
namespace {
constexpr std::size_t kStackBytes = 16384;
}  // namespace

absl::StatusOr<FloorSpawner> FloorSpawner::Create(const Command& command) {
  FloorSpawner spawner;
  for (const std::string& candidate : ExecCandidates(command)) {
    if (access(candidate.c_str(), X_OK) != 0) continue;
    spawner.path_ = candidate;
    break;
  }
  if (spawner.path_.empty()) {
    return Error(absl::StatusCode::kNotFound,
                 "the floor runs the command outside any root, and the host has no program {}",
                 command.argv.front());
  }
  for (const std::string& argument : command.argv) spawner.argv_.push_back(argument.c_str());
  for (const std::string& entry : command.env) spawner.envp_.push_back(entry.c_str());
  spawner.argv_.push_back(nullptr);
  spawner.envp_.push_back(nullptr);
  spawner.stack_.resize(kStackBytes);
  return spawner;
}

absl::StatusOr<UniqueFd> FloorSpawner::Spawn() {
  FloorChild child{path_.c_str(), argv_.data(), envp_.data(), 0};
  int pidfd = -1;
  kernel::CloneArgs args;
  args.flags = kernel::kCloneVm | kernel::kCloneVfork | kernel::kClonePidfd;
  args.exit_signal = 0;
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.stack = (reinterpret_cast<std::uint64_t>(stack_.data()) + 63) & ~std::uint64_t{63};
  args.stack_size = kStackBytes - 64;
  const sys::Result pid = sys::Clone3(args, FloorChildMain, &child);
  if (pid < 0) return ErrnoError(static_cast<int>(-pid), "cloning {}", path_);
  UniqueFd fd(pidfd);
  if (child.error != 0) {
    (void)Reap(fd.get());
    return ErrnoError(child.error, "executing {}", path_);
  }
  return fd;
}

}  // namespace brood
