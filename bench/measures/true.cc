// SPDX-License-Identifier: Apache-2.0

// brood-true: exits with status 0 and does nothing else. No libc, no loader, two pages: what is
// measured is the spawning, not the program.
#include "spawn/child/syscalls.h"

extern "C" [[noreturn, gnu::used]] void _start() { brood::sys::ExitGroup(0); }
