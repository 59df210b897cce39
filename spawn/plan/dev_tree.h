// SPDX-License-Identifier: Apache-2.0

// A worker's /dev, made by a launcher that may make device nodes: a worker in a user namespace may
// not, and each node bound from the host is a mount more.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Something in /dev.
struct DevEntry {
  enum class Kind : std::uint8_t { kNode, kLink, kDirectory, kFile };
  Kind kind = Kind::kNode;
  std::string name;  // below /dev
  std::string text;  // what a link points to, or a file holds
  dev_t device = 0;  // of a node, which is a character device that all users may read and write
};

// Thread-safe.
class DevTree {
 public:
  // The entries are made in their order. `shared`: workers may have the same tmpfs, since none of
  // them could ever write to it.
  DevTree(std::vector<DevEntry> entries, bool shared)
      : entries_(std::move(entries)), shared_(shared) {}

  // A detached, read-only mount for one worker or zygote to attach. Needs CAP_SYS_ADMIN over the
  // mounts and CAP_MKNOD (Machine::makes_nodes); errors name the entry. The process's umask and
  // working directory play no part.
  //
  // Making one takes as long as some 40 system calls do. So from the second on they are copies of
  // one that is kept, where the kernel copies what is mounted nowhere (Linux 6.15).
  absl::StatusOr<UniqueFd> Open();

 private:
  const std::vector<DevEntry> entries_;
  const bool shared_;
  std::mutex mutex_;  // of what follows
  bool opened_ = false;
  UniqueFd kept_;
};

}  // namespace brood
