#include "pool/cli/launcher_resources.h"

#include "spawn/machine.h"
#include "spawn/status.h"

namespace brood {

absl::StatusOr<LauncherResources> LauncherResources::Acquire(const Spec& spec,
                                                             std::uint32_t workers) {
  LauncherResources out;
  if (spec.use_cgroup) {
    BROOD_ASSIGN_OR_RETURN(const CgroupHost host, CgroupHost::Discover());
    (void)CgroupNest::ClearLeftovers(host);
    absl::StatusOr<CgroupNest> nest = CgroupNest::Create(host, spec.limits);
    if (nest.ok()) {
      out.nest = *std::move(nest);
    } else if (spec.limits.any()) {
      return nest.status();
    } else {
      out.fallbacks.push_back({"a cgroup of its own",
                               "the launcher's cgroup: " + std::string(Message(nest.status())), 0});
    }
  }
  if (spec.is_new(NamespaceKind::kUser) && ThisMachine().id_ranges) {
    BROOD_ASSIGN_OR_RETURN(out.ids, IdRanges::Lock(workers));
  }
  return out;
}

}  // namespace brood
