// SPDX-License-Identifier: Apache-2.0

// The floor's child: exec and nothing else. Freestanding.
#pragma once

#include "spawn/child/syscalls.h"

namespace brood {

struct FloorChild {
  const char* path;
  const char* const* argv;
  const char* const* envp;
  int error;  // errno of a failed exec
};

// `argument` is a FloorChild in memory shared with the parent.
[[noreturn]] void FloorChildMain(void* argument);

}  // namespace brood
