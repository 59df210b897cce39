// SPDX-License-Identifier: Apache-2.0

// The machine, the kernel and the build that figures come from: without them a figure says nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace brood::bench {

// Everything known to move what a process costs, read from /proc, /sys and this program itself.
// What cannot be read is absent. No host name, no addresses, no paths of this machine's own:
// results are published.
nlohmann::ordered_json CollectContext();

// The three load averages of the moment.
std::vector<double> LoadAverage();

// Why figures of this build, or of this machine now, should not be trusted; mostly empty.
std::vector<std::string> Warnings(const nlohmann::ordered_json& context);

// Short and anonymous, for file names: "2c-6.18.4".
std::string MachineName();
// The commit this was built from, "-dirty" when files differed from it; "unknown" outside git.
std::string Commit();
// UTC: "2025-01-31" and "2025-01-31T12:00:00Z".
std::string Today();
std::string Now();

}  // namespace brood::bench
