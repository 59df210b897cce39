// SPDX-License-Identifier: Apache-2.0

// What brood serve tells while it runs: its log, and the service manager.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace brood {

// Writes one JSON object a line to stderr, where systemd and people read it: the time, `event`, and
// the members of `details`. Thread-safe.
void LogEvent(std::string_view event, const nlohmann::ordered_json& details);

// Tells the manager that systemd names (sd_notify(3)): "READY=1". Without a manager, nothing is
// sent.
void NotifyManager(std::string_view state);

}  // namespace brood
