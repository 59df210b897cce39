// SPDX-License-Identifier: Apache-2.0

// How many whole isolates this machine can hold at once: the only unit that is no single limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace brood::limits {

struct IsolatesOptions {
  std::uint64_t up_to = 20'000;
  std::chrono::seconds budget{900};  // for the growth
  double memory_reserve = 0.2;       // of all memory; nothing is added below that
};

// Runs as many `sleep` as asked for, each fully isolated, born in pools of launchers of their
// own (one launcher alone would need a descriptor for each). kernel.pid_max, kernel.threads-max and
// user.max_*_namespaces are raised for the time of the run where they are too low. The object has:
// unit, set_to, launchers, raised ([{file, from, to}]), predicted ({limit, reached}), reached,
// processes_seen (by which the kernel's own count of threads grew), stopped_by ("up-to", "refused",
// "budget", "memory"), sentence where one was refused, seconds, curve ([count, microseconds for one
// more]), bytes_each, launchers_ended_ms (all processes are gone), drained and drain_ms (until the
// kernel's counts are back, too), counts ({threads, cgroups, net_namespaces, available_bytes:
// {before, peak, after}}), recovered (the part of all processes that is gone again). Errors as
// Push.
absl::StatusOr<nlohmann::ordered_json> PushIsolates(const IsolatesOptions& options);

}  // namespace brood::limits
