// SPDX-License-Identifier: Apache-2.0

// Whether a function's program is there before its first call asks.
#pragma once

#include "absl/status/status.h"
#include "spawn/spec.h"

namespace brood {

// kNotFound with a sentence when `command` can only fail with "no such file" in that isolation: its
// program is named by a path, or looked for in its PATH. OK when that cannot be told.
absl::Status CheckProgram(const Spec& spec, const Command& command);

}  // namespace brood
