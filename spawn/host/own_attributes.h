// SPDX-License-Identifier: Apache-2.0

// The launcher's own attributes, as far as its workers would inherit them.
#pragma once

#include <cstdint>
#include <vector>

#include "spawn/child/attributes.h"
#include "spawn/outcome.h"

namespace brood {

// Those of the calling thread that are not the defaults: a set of Bit(Attribute).
std::uint32_t OddAttributes();
// Whether the OOM killer's score of this process is not 0.
bool HasOomScore();

// What a worker kept of its launcher's, by name, since it could not be put back.
std::vector<Fallback> KeptAttributes(const AttributeErrors& errors);

}  // namespace brood
