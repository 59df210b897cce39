// SPDX-License-Identifier: Apache-2.0

// Whether limits can be kept here.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/host/cgroup_host.h"

namespace brood {

// What `limits` lack; empty when they can be kept.
inline std::string MissingFor(const Limits& limits) {
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok() || host->base.empty()) return "a writable cgroup2 mount";
  for (const std::string_view needed : ControllersFor(limits)) {
    if (!host->Has(needed)) return "the cgroup2 controller " + std::string(needed);
  }
  // What was handed to an ordinary user has the tests' own processes in it (tests/as-user), and
  // such a cgroup passes no controllers on.
  if (geteuid() == 0) return "";
  const auto parent = ParentCgroup::Create(*host, limits);
  return parent.ok() ? "" : std::string(Message(parent.status()));
}

}  // namespace brood

// In a test's body or SetUp: skips it, by name.
#define BROOD_NEEDS_LIMITS(limits)                                               \
  if (const std::string missing = ::brood::MissingFor(limits); !missing.empty()) \
  GTEST_SKIP() << "missing: " << missing
