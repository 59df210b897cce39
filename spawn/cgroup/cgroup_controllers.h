// SPDX-License-Identifier: Apache-2.0

// Controllers: which ones limits need, and how a cgroup passes them on.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/spec.h"

namespace brood {

// The controllers that `limits` need: some of "memory", "pids", "cpu", "io" and "cpuset". None
// without limits.
std::vector<std::string_view> ControllersFor(const Limits& limits);

// Limits that need exactly the controllers which `host.base` has, for ParentCgroup::Create; their
// values mean nothing.
Limits LimitsToBeHad(const CgroupHost& host);

// OK when `host.base` has all controllers that `limits` need. Else kFailedPrecondition, naming the
// first that is missing, where it is instead, and what to do. Pure.
absl::Status CheckControllers(const CgroupHost& host, const Limits& limits);

// Makes the cgroup open as `directory` pass `controllers` on to those below it; what it passes on
// already stays. A cgroup with processes must not (save the top of the hierarchy): when all of
// them are this process and its descendants they move to kLauncherLeaf, else kFailedPrecondition.
// Not undone later: others may have come to rely on it. Moving takes a global kernel lock and may
// wait for RCU grace periods: call it once, early.
absl::Status EnableControllers(int directory, std::span<const std::string_view> controllers);

}  // namespace brood
