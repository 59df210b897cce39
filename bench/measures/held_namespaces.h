// SPDX-License-Identifier: Apache-2.0

// Namespaces that somebody else keeps, for workers to join.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "spawn/host/id_ranges.h"
#include "spawn/spec.h"

namespace brood::bench {

// A process that lives in a user namespace of its own, which maps a range of ids that nobody else
// uses, and in a network namespace that belongs to it. The destructor ends it. Thread-compatible.
class HeldNamespaces {
 public:
  // Needs root.
  static absl::StatusOr<std::unique_ptr<HeldNamespaces>> Create();
  ~HeldNamespaces();
  HeldNamespaces(const HeldNamespaces&) = delete;
  HeldNamespaces& operator=(const HeldNamespaces&) = delete;

  // What Spec::namespaces wants to join one of them.
  NamespaceChoice Join(NamespaceKind kind) const;

 private:
  HeldNamespaces() = default;

  pid_t pid_ = -1;
  IdRanges ids_;
  std::uint32_t first_id_ = 0;
};

}  // namespace brood::bench
