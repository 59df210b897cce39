// SPDX-License-Identifier: Apache-2.0

// Cgroup leaves made ahead and used again.
//
// mkdir and rmdir of a cgroup take cgroup_mutex, which every clone into a cgroup takes too. A leaf
// whose worker is gone is as good as new if nothing was limited or could have been changed in it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/spec.h"

namespace brood {

// Not thread-safe. `parent` must outlive it and may be null: then leaves are empty names.
class LeafStock {
 public:
  LeafStock(const ParentCgroup* parent, std::string prefix, const Spec& spec)
      : parent_(parent),
        prefix_(std::move(prefix)),
        limits_(spec.limits),
        // Limits come with peaks and counters that cannot all be reset, and what the last worker
        // read is still charged to them; a worker with CAP_SYS_ADMIN can mount its cgroup and
        // change it.
        reusable_(!spec.limits.any() && spec.capabilities.empty()) {}

  // An empty leaf with its limits set.
  absl::StatusOr<std::string> Take();
  // Takes one back whose worker has been reaped. `empty`: nothing can be left in it (the worker was
  // the init of a pid namespace); otherwise what is left is killed.
  void Return(std::string leaf, bool empty);
  // Removes leaves that were busy when they came back; true when none is left.
  bool Sweep();

 private:
  const ParentCgroup* parent_;
  std::string prefix_;
  Limits limits_;
  bool reusable_;
  std::uint64_t made_ = 0;
  std::vector<std::string> free_;
  std::vector<std::string> dying_;
};

}  // namespace brood
