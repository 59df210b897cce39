// Drives one limit after another to failure, in a place of its own, and tells which limit it was.
//
// Each limit is pushed by a process apart, in a user namespace or cgroup whose own lower limit is
// set first: counts are hierarchical, so the machine's own are never reached. What that process
// holds ends with it, and it ends with this one (PR_SET_PDEATHSIG); only cgroups can stay behind,
// and the next run removes those of runs that are dead.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brood::limits {

struct StressOptions {
  std::uint64_t up_to = 500;        // what each limit is set to, where it can be set
  std::chrono::seconds budget{60};  // for one limit, its drain included
  double memory_reserve = 0.2;      // of all memory; nothing is added below that
};

// What the units are called, with what each is: {"net-namespaces", "network namespaces of ..."}.
struct UnitName {
  std::string_view name;
  std::string_view what;
};
std::vector<UnitName> Units();

// Pushes one limit. The object has: limit, what, where, set_to, ceiling, reached, there_before,
// call, errno, error, named (which limit was hit, by spawn/limits), raise, stopped_by ("limit",
// "up-to", "budget", "memory"), seconds, curve ([count, microseconds for one more]), bytes_each,
// drain_ms. kUnavailable when the machine lacks something, with its name; kNotFound for no unit.
// Forks: this process must have one thread. kCancelled when SIGINT or SIGTERM came meanwhile.
absl::StatusOr<nlohmann::ordered_json> Push(std::string_view unit, const StressOptions& options);

// Removes cgroups of runs that have died. Those of living ones stay.
absl::Status ClearLeftovers();

}  // namespace brood::limits
