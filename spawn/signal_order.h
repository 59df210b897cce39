// SPDX-License-Identifier: Apache-2.0

// What is asked of a running command.
#pragma once

#include <cstdint>

namespace brood {

// One signal for a command.
struct SignalOrder {
  std::int32_t number = 0;  // 0: kill all of it
  // Also to those that it has started and that are in its process group, as a terminal's keys are.
  std::uint8_t group = 0;
  // Only whom has a handler for it: the launcher was started with this signal ignored (nohup, a
  // shell's background jobs), which ends nobody.
  std::uint8_t handlers_only = 0;
};

}  // namespace brood
