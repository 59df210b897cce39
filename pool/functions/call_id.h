// SPDX-License-Identifier: Apache-2.0

// Names of calls that nobody can guess, and the time that they are told.
#pragma once

#include <cstdint>
#include <string>

namespace brood {

// 32 hexadecimal digits of a random UUID; any thread.
std::string RandomDigits();
// The same with hyphens, as Lambda has its request ids.
std::string NewCallId();
// Milliseconds since the epoch.
std::int64_t EpochMs();

}  // namespace brood
