// SPDX-License-Identifier: Apache-2.0

// capabilities(7) by name and by number, and what the running kernel has of them.
//
// All functions are thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace brood {

// The number of a capability named as "NET_ADMIN" or "CAP_NET_ADMIN", in any case.
// kInvalidArgument, with the nearest name where one is near, for anything else ("ALL" included).
// Knows every name up to CAP_CHECKPOINT_RESTORE (Linux 5.9), whatever the running kernel has.
absl::StatusOr<int> CapabilityFromName(std::string_view name);

// "CAP_NET_ADMIN" for its number; empty for a number this table has no name for. Static storage.
std::string_view CapabilityName(int capability);

// The highest capability of the running kernel: 40 since Linux 5.9. Asked of it once.
int LastCapability();

// The set as the kernel keeps it: bit n is capability n. "ALL" stands for every capability of the
// running kernel, those newer than this table included. kInvalidArgument for an unknown name,
// kUnimplemented for one that the running kernel does not have.
absl::StatusOr<std::uint64_t> CapabilityMask(const std::vector<std::string>& names);

}  // namespace brood
