// SPDX-License-Identifier: Apache-2.0

// A command in the foreground: its descriptors, its signals, its terminal, until it ends.
#pragma once

#include <functional>
#include <span>

#include "absl/status/statusor.h"
#include "pool/cli/terminal.h"
#include "pool/daemon/client.h"

namespace brood {

struct AttachOptions {
  bool interactive = false;  // -i: it gets our stdin, else /dev/null
  bool terminal = false;     // -t
};

// Starts a command through `start`, which sends it with the descriptors it is given, and returns
// its tag. Then it is in our foreground (pool/cli/foreground.h) until it has ended, and how it did
// is returned. Without a terminal the command reads and writes our own descriptors.
absl::StatusOr<Ended> Attach(Client& client, const AttachOptions& options,
                             const std::function<absl::StatusOr<std::uint64_t>(
                                 ClientIo io, TerminalSize size, std::span<const int> fds)>& start);

// Prints why the command never ran, if so, and gives the exit status to end with.
int Report(const absl::StatusOr<Ended>& ended);

}  // namespace brood
