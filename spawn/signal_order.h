// SPDX-License-Identifier: Apache-2.0

// What is asked of a running command.
#pragma once

#include <cstdint>

namespace brood {

// One signal for a command.
struct SignalOrder {
  std::int32_t number = 0;  // 0: kill all of it
  // Also to the other processes in its process group, as the keys of a terminal do.
  std::uint8_t group = 0;
  // Only if the command handles it: the launcher was started with this signal ignored (nohup, a
  // shell's background jobs), so it must not end a command that has no handler.
  std::uint8_t handlers_only = 0;
};

}  // namespace brood
