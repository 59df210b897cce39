// SPDX-License-Identifier: Apache-2.0

// What a launcher holds for its workers: a parent cgroup and host ids.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/id_ranges.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {

struct LauncherResources {
  // None where no cgroup may be made; `fallbacks` then says why.
  std::optional<ParentCgroup> parent;
  IdRanges ids;
  std::vector<Fallback> fallbacks;

  struct Wanted {
    bool cgroup = false;
    Limits limits;                // those that any worker will have
    Limits more_limits;           // those that may come to be asked for
    std::uint32_t id_ranges = 0;  // workers with a user namespace of their own

    // Adds what `workers` workers of `spec` need.
    void Add(const Spec& spec, std::uint32_t workers);
  };

  // The parent cgroup when a cgroup is wanted, and the id ranges where they can be mapped. Also
  // clears what dead launchers left. A limit that cannot be had is an error; more limits, and a
  // cgroup without limits, that cannot be had are fallbacks.
  static absl::StatusOr<LauncherResources> Acquire(const Wanted& wanted);
};

}  // namespace brood
