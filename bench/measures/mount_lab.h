// SPDX-License-Identifier: Apache-2.0

// A mount namespace with nothing in it but what a measurement needs.
#pragma once

#include <filesystem>

#include "absl/status/status.h"

namespace brood::bench {

// Gives the calling process a mount namespace of its own, whose root is an empty tmpfs with the
// directories /old, /a and /b, and `mounts` mounts in all (at least 1): the root, and binds of /a
// below /m. Nothing of the host's tree is left in it. For a Lab's set-up.
absl::Status EnterMountLab(const std::filesystem::path& scratch, int mounts);

}  // namespace brood::bench
