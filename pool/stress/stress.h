// SPDX-License-Identifier: Apache-2.0

// Drives one limit after another to failure, in a place of its own, and tells which limit it was.
//
// Each limit is pushed by a subprocess, in a user namespace or cgroup whose own lower limit is
// set first: counts are hierarchical, so the machine's own are never reached. What that process
// holds ends with it, and it ends with this one (PR_SET_PDEATHSIG); what can stay behind is cleared
// by a guardian, see leftovers.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brood::limits {

struct StressOptions {
  // What each limit is set to, where it can be set; with `host` what is added at most.
  std::uint64_t up_to = 500;
  std::chrono::seconds budget{60};  // for one limit, its drain included
  double memory_reserve = 0.2;      // of all memory; nothing is added below that
  bool host = false;                // the machine's own limits, not lower ones of a place apart
};

// Pushes one limit. The object has: unit, limit, what, where and configured (null: unlimited or
// built in) as they were before, set_to (null: none), there_before, predicted ({limit, reached}:
// which limit is used up first), reached, stopped_by ("limit", "up-to", "budget", "memory"); call,
// errno, named (which limits were hit, by spawn/limits) and sentence where the kernel refused;
// seconds, curve ([count, microseconds for one more, the mean of those since the point before]),
// bytes_each, drained, drain_ms.
// kUnavailable when the machine lacks something, with its name; kNotFound for no unit. Forks: this
// process must have one thread. kCancelled when SIGINT or SIGTERM came meanwhile.
absl::StatusOr<nlohmann::ordered_json> Push(std::string_view name, const StressOptions& options);

struct StormOptions {
  double rate = 1000;  // a second
  std::chrono::seconds length{30};
  std::chrono::seconds patience{60};  // for the drain
};

// Makes and lets go of one after another at a set rate, in a place of its own without a lower
// limit. The object has: unit, rate_wanted, rate_reached, made, errors ({ERRNO: count}),
// latency_us (p50, p99, maximum of one call, from the moment it was due), debt ([seconds, how many
// the kernel still had], within a twentieth), peak, drained, drain_ms. Errors as Push; and
// kUnimplemented for a unit whose count the kernel does not tell.
absl::StatusOr<nlohmann::ordered_json> Storm(std::string_view name, const StormOptions& options);

}  // namespace brood::limits
