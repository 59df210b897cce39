// SPDX-License-Identifier: Apache-2.0

// The rows peer/...: other programs that isolate, and brood's own commands, each as its user runs
// it: the whole command on the same payload in the same root.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench/harness/row.h"

namespace brood::bench {

struct PeerSetup {
  std::string payload;            // a static program that only exits, as an absolute path
  std::string brood;              // the brood program
  std::filesystem::path scratch;  // a directory of this run's own, with a short path (sockets)
};

// The names of all their rows.
std::vector<std::string> PeerNames();

// Rows named peer/floor, peer/brood-run, peer/brood-submit, peer/bubblewrap...; all but the first
// are compared with that. Only those that are `wanted`, by name, and the floor when any is. Each of
// these is tried once: what is not installed, or fails, is an
// unavailable row that says so in the peer's own words. That takes some seconds. Daemons run only
// while their own rows are tried and measured.
//
// Beside "us", each has the series "left": all that the commands of one measurement, warm-ups
// included, have left on the machine; and "left_zombies", what of it are dead processes that nobody
// reaped. Both are cleared away.
std::vector<Row> PeerRows(const PeerSetup& setup,
                          const std::function<bool(const std::string&)>& wanted);

// {"bubblewrap": "bubblewrap 0.8.0", ...} of those that are installed.
nlohmann::ordered_json PeerVersions(const PeerSetup& setup);

}  // namespace brood::bench
