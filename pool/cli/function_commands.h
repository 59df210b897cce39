// SPDX-License-Identifier: Apache-2.0

// What commands for isolates do with calls of functions.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace brood {

// Ends a call that waits or runs. kNotFound when there is none of that id.
absl::Status KillCall(const std::string& socket, const std::string& id);

// Prints the latest calls of a function, or with "" of all, with what they wrote to stderr; with
// `follow`, and those to come.
absl::Status PrintCallLogs(const std::string& socket, const std::string& function, bool follow);

}  // namespace brood
