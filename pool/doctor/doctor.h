// SPDX-License-Identifier: Apache-2.0

// What this machine allows brood, and what it costs: found by trying, not by versions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pool/doctor/finding.h"

namespace brood {

struct DoctorOptions {
  std::uint32_t workers = 1000;  // as many as a pool is to hold at once
  std::string brood;             // the program's own file, for a trial run
};

// Looks at everything, from what brood cannot do without to what only costs. Changes nothing: what
// is tried is tried in processes that end, and in namespaces and cgroups that go with them. Takes
// some ten milliseconds. The process must have one thread.
std::vector<Finding> Examine(const DoctorOptions& options);

}  // namespace brood
