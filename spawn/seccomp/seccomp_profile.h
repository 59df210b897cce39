// SPDX-License-Identifier: Apache-2.0

// Profiles in files: the OCI runtime specification's form, and container engines' own.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "spawn/seccomp/seccomp.h"

namespace brood {

// Compiles the profile in `file`, as CompileSeccomp tells for kFile. Thread-safe.
absl::StatusOr<SeccompProgram> CompileSeccompProfile(const std::string& file,
                                                     std::uint64_t capability_mask);

}  // namespace brood
