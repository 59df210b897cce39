// SPDX-License-Identifier: Apache-2.0

// Scripts that ask for an isolate's init.
#pragma once

namespace brood {

// Prints the name of process 1. The command is born before its init execs, and may be the first to
// look.
inline constexpr char kNameOfInit[] =
    "for i in $(seq 100); do grep -q brood-init /proc/1/comm && break; sleep 0.02; done; "
    "cat /proc/1/comm";

}  // namespace brood
