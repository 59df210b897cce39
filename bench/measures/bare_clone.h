// SPDX-License-Identifier: Apache-2.0

// The parent's side of a bare child: clone3, wait, and look how it ended.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/measures/bare_child.h"

namespace brood::bench {

// How most bare children are born: the parent's memory is shared and the parent waits, so nothing
// is copied and no page table made.
inline constexpr std::uint64_t kLikeVfork = kernel::kCloneVm | kernel::kCloneVfork;

// OK when `wait_status` is that of a process that exited with 0; else a sentence about `what`.
absl::Status CheckExit(std::string_view what, int wait_status);

// Clones one child after the other, all alike, on the same stack. Not thread-safe.
class BareClone {
 public:
  static absl::StatusOr<BareClone> Create();

  // What the child does. Kept from one to the next.
  BareChild& child() { return memory_->child; }

  // One child, from clone3 with `flags` to reaped. An error when it was not made, or did not do all
  // it was told, or did not exit with 0.
  absl::Status RunOnce(std::uint64_t flags, int cgroup = -1);

  // A child that is not waited for; its pid. With `flags` that share memory, the caller must wait
  // for it before it starts another: they would stand on one stack. `cgroup` is a directory to be
  // born in.
  absl::StatusOr<pid_t> Start(std::uint64_t flags, int cgroup = -1);

  // Reaps a started child, and looks how it ended.
  absl::Status Await(pid_t pid) const;

 private:
  struct Memory {
    BareChild child;
    alignas(64) char stack[16384];
  };
  struct Unmapper {
    void operator()(Memory* memory) const;
  };

  BareClone() = default;
  absl::Status Describe(int wait_status) const;

  std::unique_ptr<Memory, Unmapper> memory_;  // shared, so that a forked child's answer is seen
};

}  // namespace brood::bench
