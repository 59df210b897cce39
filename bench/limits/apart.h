// A process apart, which answers with one JSON object.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace brood::limits {

// Runs `work` in a forked process, which ends with this one, and returns what it returned. A
// guardian and this function itself clear up after it. kCancelled when SIGINT, SIGTERM or SIGHUP
// came meanwhile (their handlers are set), kDeadlineExceeded after `patience`, kAborted when the
// process was killed, as for want of memory. This process must have one thread.
absl::StatusOr<nlohmann::ordered_json> RunApart(
    std::chrono::seconds patience,
    const std::function<absl::StatusOr<nlohmann::ordered_json>()>& work);

// Whether one of those signals has come; also in the process apart.
bool Interrupted();

}  // namespace brood::limits
