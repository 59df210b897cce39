// What a launcher on the command line holds for its workers: a cgroup nest and host ids.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "spawn/cgroup.h"
#include "spawn/cold.h"
#include "spawn/id_ranges.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {

struct LauncherResources {
  std::optional<CgroupNest> nest;  // none where no cgroup may be made; `fallbacks` then says why
  IdRanges ids;
  std::vector<Fallback> fallbacks;

  // A nest when `spec` wants one, and `workers` id ranges where they can be mapped. Also clears
  // what dead launchers left. A limit that cannot be had is an error; a cgroup without limits that
  // cannot be had is a fallback.
  static absl::StatusOr<LauncherResources> Acquire(const Spec& spec, std::uint32_t workers);
};

}  // namespace brood
