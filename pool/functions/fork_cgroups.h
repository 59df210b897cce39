// SPDX-License-Identifier: Apache-2.0

// The cgroups of a forked function: its process' and its calls', side by side.
//
//   PARENT/forked-N/process   of the process
//   PARENT/forked-N/call-M    of a call, which the process clones into it: without privilege it has
//                             to own cgroup.procs of forked-N and of call-M for that
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/spec.h"

namespace brood {

// Not thread-safe. The parent cgroup's owner must outlive it, and removes what it could not.
class ForkCgroups {
 public:
  // A leaf for one call at a time.
  struct Leaf {
    std::string name;
    // The directory as a mount of its own, from which no path leads up: it is given to the process.
    UniqueFd root;
  };

  // Makes forked-N and the process' leaf in the cgroup `parent`, both with `limits`, which
  // count for the process and for each call apart.
  static absl::StatusOr<ForkCgroups> Make(const std::string& parent, const Limits& limits);

  ForkCgroups(ForkCgroups&&) = default;
  ForkCgroups& operator=(ForkCgroups&&) = default;

  // Of the process, below the parent cgroup.
  std::string process_leaf() const { return name_ + "/process"; }
  // Lets processes of this user clone into later leaves. Call it before Take.
  absl::Status LetBirth(uid_t user);

  // kPermissionDenied to those who may not mount (root's CAP_SYS_ADMIN).
  absl::StatusOr<Leaf> Take();
  // `clean`: the call has ended by itself, so that the leaf is as good as new.
  void Return(Leaf leaf, bool clean);
  absl::Status Kill(const Leaf& leaf) const;
  // What its call has used; of a function without limits nothing, since leaves are used again then.
  LeafUsage Usage(const Leaf& leaf) const;

  // Removes all of it; kDeadlineExceeded while a process is still dying in it.
  absl::Status Remove();

 private:
  // Free leaves beyond these are removed: each costs a descriptor.
  static constexpr std::size_t kMostFree = 128;

  ForkCgroups() = default;
  void Sweep();

  UniqueFd parent_;
  UniqueFd directory_;
  std::string name_;
  Limits limits_;
  uid_t user_ = 0;
  std::uint64_t made_ = 0;
  std::vector<Leaf> free_;  // last in, first out
  std::vector<std::string> used_up_;
};

}  // namespace brood
