// SPDX-License-Identifier: Apache-2.0

#include "spawn/plan/capability_reach.h"

#include <fmt/format.h>
#include <linux/capability.h>

#include <cerrno>
#include <optional>

#include "spawn/base/capabilities.h"

namespace brood {
namespace {

struct Reach {
  int capability;
  std::optional<NamespaceKind> over;  // nothing: over the machine alone
};

constexpr Reach kReaches[] = {
    {CAP_NET_ADMIN, NamespaceKind::kNet},
    {CAP_NET_RAW, NamespaceKind::kNet},
    {CAP_NET_BIND_SERVICE, NamespaceKind::kNet},
    {CAP_NET_BROADCAST, NamespaceKind::kNet},
    {CAP_IPC_OWNER, NamespaceKind::kIpc},
    {CAP_SYS_BOOT, NamespaceKind::kPid},
    {CAP_SYS_MODULE, std::nullopt},
    {CAP_SYS_RAWIO, std::nullopt},
    {CAP_SYS_PACCT, std::nullopt},
    {CAP_SYS_TIME, std::nullopt},
    {CAP_SYS_TTY_CONFIG, std::nullopt},
    {CAP_LINUX_IMMUTABLE, std::nullopt},
    {CAP_MAC_ADMIN, std::nullopt},
    {CAP_MAC_OVERRIDE, std::nullopt},
    {CAP_SYSLOG, std::nullopt},
    {CAP_WAKE_ALARM, std::nullopt},
    {CAP_BLOCK_SUSPEND, std::nullopt},
};

}  // namespace

std::vector<Fallback> CapabilitiesWithoutEffect(const Spec& spec) {
  std::vector<Fallback> found;
  if (!spec.is_new(NamespaceKind::kUser)) return found;
  for (const std::string& name : spec.capabilities) {
    const auto capability = CapabilityFromName(name);
    if (!capability.ok()) continue;
    for (const Reach& reach : kReaches) {
      if (reach.capability != *capability) continue;
      if (reach.over && spec.ns(*reach.over).mode != NamespaceMode::kHost) continue;
      found.push_back(
          {fmt::format("{} over {}", name,
                       reach.over
                           ? fmt::format("the host's {} namespace", NamespaceName(*reach.over))
                           : "the machine"),
           "a capability only in the worker's own user namespace (--no-user keeps the host's)",
           EPERM});
    }
  }
  return found;
}

}  // namespace brood
