// SPDX-License-Identifier: Apache-2.0

// The floor: what the machine itself charges for a process, with no isolation.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood {

// clone(CLONE_VM|CLONE_VFORK) and execve of `argv[0]`, a path, with /dev/null for stdin, stdout and
// stderr left as they are; returns when the program has been exec'd. The least that any way of
// starting it can cost. The pidfd is for Reap (spawn/launch/reap.h).
class FloorSpawner {
 public:
  // Lays out the command once; it must outlive the spawner. argv[0] is looked up in PATH now, on
  // the host. kNotFound when it is not there.
  static absl::StatusOr<FloorSpawner> Create(const Command& command);

  // An error when the kernel refuses clone or exec. Not thread-safe.
  absl::StatusOr<UniqueFd> Spawn();

 private:
  FloorSpawner() = default;
  std::string path_;
  std::vector<const char*> argv_;
  std::vector<const char*> envp_;
  std::vector<char> stack_;
};

}  // namespace brood
