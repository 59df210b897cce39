// SPDX-License-Identifier: Apache-2.0

// Runs of brood stress that are interrupted, and what is left of them.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace brood {

// Cgroups and notes of runs of brood stress, living or dead.
std::vector<std::string> Leftovers();

// The machine's own values that a run might change, by file.
std::map<std::string, std::string> Sysctls();

// Starts so many runs, of one limit or another, ends each at a random moment with SIGINT or
// SIGKILL, lets one more run to its end, and tells what is there that was not there before:
// cgroups, notes, changed sysctls, processes.
std::vector<std::string> InterruptStress(int runs);

}  // namespace brood
