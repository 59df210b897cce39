// SPDX-License-Identifier: Apache-2.0

// What a command writes to stdout, and whether it arrived.
#pragma once

#include "absl/status/status.h"

namespace brood {

// From here on, whatever is written to stdout through stdio and fails is remembered. Nothing is
// thrown, and nothing that a command has begun is cut short. Fails where there is no memory.
absl::Status WatchOutput();

// The first write to stdout that failed; OK when there is none. For those who write without end.
absl::Status OutputStatus();

// Writes what is buffered. `status`, the command's, when all of its output has arrived; otherwise
// says why not and returns 125. Of a reader that is gone nothing is said: the status is that of a
// process that SIGPIPE has ended.
int FinishOutput(int status);

}  // namespace brood
