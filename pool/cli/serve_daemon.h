// SPDX-License-Identifier: Apache-2.0

// The daemon: socket, service, functions over HTTP, reloading and ending.
#pragma once

#include "absl/status/status.h"
#include "pool/cli/serve_words.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Blocks the signals that a daemon is told things by, and opens them to be read. To be called
// before there are threads, which inherit what is blocked.
absl::StatusOr<UniqueFd> TakeSignals();

// Serves until it is told to end by `signals`: SIGTERM and SIGINT once to drain, again to kill all;
// SIGHUP reloads. Blocks. A sentence for what kept it from beginning, or from ending well.
absl::Status Serve(const ServeWords& words, UniqueFd signals);

}  // namespace brood
