#include "pool/launcher_resources.h"

#include <algorithm>
#include <string>

#include "spawn/machine.h"
#include "spawn/status.h"
#include "spawn/subordinate_ids.h"
#include "spawn/without.h"

namespace brood {
namespace {

// What a launcher gives its workers that may not map any ids it likes.
Fallback IdsInsteadOfRanges() {
  Fallback fallback;
  fallback.wanted = "a range of host ids for each worker";
  const SubordinateIds& ids = OurSubordinateIds();
  if (ThisMachine().subordinate_ids) {
    fallback.used = fmt::format("one range for all workers of {}, from /etc/subuid", ids.user);
  } else if (ThisMachine().mount_admin) {
    fallback.used = ThisMachine().initial_user
                        ? "one id, the launcher's: it lacks CAP_SETUID or CAP_SETGID"
                        : "one id, the launcher's: its user namespace has no more to give";
  } else {
    fallback.used = fmt::format("one id, that of {}, whose files a worker can therefore open: {}",
                                ids.user, ids.why_not);
  }
  return fallback;
}

}  // namespace

void LauncherResources::Wanted::Add(const Spec& spec, std::uint32_t workers) {
  cgroup |= spec.use_cgroup;
  limits.Override(spec.limits);
  if (spec.is_new(NamespaceKind::kUser)) id_ranges += workers;
}

absl::StatusOr<LauncherResources> LauncherResources::Acquire(const Wanted& wanted) {
  LauncherResources out;
  out.fallbacks = WaysTakenAway();
  if (wanted.cgroup) {
    BROOD_ASSIGN_OR_RETURN(const CgroupHost host, CgroupHost::Discover());
    if (const auto cleared = CgroupNest::ClearLeftovers(host); !cleared.ok()) {
      out.fallbacks.push_back({"the cgroups of dead launchers taken away",
                               "left as they are: " + std::string(Message(cleared.status())), 0});
    }
    Limits all = wanted.limits;
    all.Override(wanted.more_limits);
    absl::StatusOr<CgroupNest> nest = CgroupNest::Create(host, all);
    if (!nest.ok() && wanted.more_limits.any()) {
      Fallback fallback = {"limits that a request may ask for",
                           "none: " + std::string(Message(nest.status())), 0};
      nest = CgroupNest::Create(host, wanted.limits);
      if (nest.ok()) out.fallbacks.push_back(std::move(fallback));
    }
    if (nest.ok()) {
      out.nest = *std::move(nest);
    } else if (wanted.limits.any()) {
      return nest.status();
    } else {
      out.fallbacks.push_back({"a cgroup of its own",
                               "the launcher's cgroup: " + std::string(Message(nest.status())), 0});
    }
  }
  if (wanted.id_ranges > 0 && ThisMachine().id_ranges) {
    BROOD_ASSIGN_OR_RETURN(out.ids, IdRanges::Open(std::min(wanted.id_ranges, IdRanges::kBlock)));
  } else if (wanted.id_ranges > 0) {
    out.fallbacks.push_back(IdsInsteadOfRanges());
  }
  return out;
}

}  // namespace brood
