// SPDX-License-Identifier: Apache-2.0

// Bytes that can no longer be changed, as a file without a name.
#pragma once

#include <span>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// A memfd (3.17) with `bytes`, sealed, so that no worker that comes by it can rewrite what others
// read or run. `executable`: it may be run, or mapped to be, where vm.memfd_noexec forbids that by
// default (6.3). `name`, for people, shows in /proc/PID/maps.
absl::StatusOr<UniqueFd> SealedMemory(const char* name, std::span<const char> bytes,
                                      bool executable);

}  // namespace brood
