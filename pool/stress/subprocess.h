// SPDX-License-Identifier: Apache-2.0

// A subprocess, which answers with one JSON object.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"
#include "pool/stress/unit.h"

namespace brood::limits {

// Runs `work` in a forked process, which ends with this one, and returns what it returned. A
// guardian and this function itself clear up after it. kCancelled when SIGINT, SIGTERM or SIGHUP
// came meanwhile (their handlers are set), kDeadlineExceeded after `patience`, kAborted when the
// process was killed, as for want of memory. This process must have one thread.
absl::StatusOr<nlohmann::ordered_json> RunInSubprocess(
    std::chrono::seconds patience,
    const std::function<absl::StatusOr<nlohmann::ordered_json>()>& work);

// The same for the unit of that name, with which errors begin. kNotFound when there is none.
absl::StatusOr<nlohmann::ordered_json> RunInSubprocess(
    std::string_view unit, std::chrono::seconds patience,
    const std::function<absl::StatusOr<nlohmann::ordered_json>(const Unit&)>& work);

}  // namespace brood::limits
