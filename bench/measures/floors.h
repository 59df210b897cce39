// SPDX-License-Identifier: Apache-2.0

// Ways of starting a process with no isolation, each to its end.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "bench/harness/row.h"
#include "pool/burst/floor.h"
#include "spawn/spec.h"

namespace brood::bench {

enum class Start { kFork, kVfork, kPosixSpawn, kClone3, kClone3Vfork };

// One process after the other: made in this way, executes `command`, and is reaped. kClone3 copies
// the memory as fork does, and tells the parent of the end by no signal.
// With `quiet`, nothing happens for so long before each: what the machine does in between, for
// those that came before, is then not in the figure.
Row ExecRow(std::string name, Start how, const Command& command,
            std::chrono::milliseconds quiet = {});

// One bare process of `floor`, made, reaped, and its exit checked.
absl::Status FloorOnce(FloorSpawner& floor);

}  // namespace brood::bench
