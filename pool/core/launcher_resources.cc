// SPDX-License-Identifier: Apache-2.0

#include "pool/core/launcher_resources.h"

#include <algorithm>
#include <string>

#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/host/subordinate_ids.h"
#include "spawn/host/without.h"

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
    if (const auto cleared = ParentCgroup::ClearLeftovers(host); !cleared.ok()) {
      out.fallbacks.push_back({"the cgroups of dead launchers removed",
                               "left as they are: " + std::string(Message(cleared.status())), 0});
    }
    Limits all = wanted.limits;
    all.Override(wanted.more_limits);
    absl::StatusOr<ParentCgroup> parent = ParentCgroup::Create(host, all);
    if (!parent.ok() && wanted.more_limits.any()) {
      Fallback fallback = {"limits that a request may ask for",
                           "none: " + std::string(Message(parent.status())), 0};
      parent = ParentCgroup::Create(host, wanted.limits);
      if (parent.ok()) out.fallbacks.push_back(std::move(fallback));
    }
    if (parent.ok()) {
      out.parent = *std::move(parent);
    } else if (wanted.limits.any()) {
      return parent.status();
    } else {
      out.fallbacks.push_back({"a cgroup of its own",
                               "the launcher's cgroup: " + std::string(Message(parent.status())),
                               0});
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
