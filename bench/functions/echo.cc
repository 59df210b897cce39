// SPDX-License-Identifier: Apache-2.0

// brood-echo: writes what it reads, to its end, and exits with status 0. No libc, no loader: what
// is measured is the call, not the program.
#include "spawn/child/syscalls.h"

extern "C" [[noreturn, gnu::used]] void _start() {
  char piece[4096];
  for (;;) {
    const brood::sys::Result got = brood::sys::Read(0, piece, sizeof(piece));
    if (got <= 0) brood::sys::ExitGroup(got < 0 ? 1 : 0);
    for (brood::sys::Result done = 0; done < got;) {
      const brood::sys::Result count =
          brood::sys::Write(1, piece + done, static_cast<std::size_t>(got - done));
      if (count <= 0) brood::sys::ExitGroup(1);
      done += count;
    }
  }
}
