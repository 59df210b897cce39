// SPDX-License-Identifier: Apache-2.0

// Which limit will be the first to be used up, before one is added.
#pragma once

#include <cstdint>
#include <string>

#include "pool/stress/unit.h"

namespace brood::limits {

struct Ceiling {
  std::string limit;        // as spawn/limits names it, or "memory"
  std::uint64_t count = 0;  // that can be added
};

// `room` is what the unit's own limit leaves; `reserve` the bytes of memory that are not to be
// touched. Reads /proc and the cgroups of this process. An estimate where memory decides, since
// Cost::bytes is one; exact where a count decides and no other process adds to it meanwhile.
Ceiling Predict(const Unit& unit, std::uint64_t room, std::uint64_t reserve);

}  // namespace brood::limits
