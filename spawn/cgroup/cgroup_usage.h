// SPDX-License-Identifier: Apache-2.0

// Reading what a cgroup has used.
#pragma once

#include <string>
#include <string_view>

#include "spawn/usage.h"

namespace brood {

// Reads the files of the cgroup `name` in `parent`; all absent when there is none.
LeafUsage ReadUsage(int parent, const std::string& name);

// The sum over all lines of io.stat. Pure.
IoUsage ParseIoStat(std::string_view text);

}  // namespace brood
