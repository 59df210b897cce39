// SPDX-License-Identifier: Apache-2.0

// Which of its limits a worker has met, as sentences.
#pragma once

#include <string>
#include <vector>

#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {

// "its own memory limit (64 MiB, memory.max) was reached, and all of it was killed": one sentence
// for each limit that has killed, refused or slowed it, by outcome.usage and outcome.end; those
// that kill first. Of a limit above its own cgroup it tells as much as the kernel does. Pure.
std::vector<std::string> LimitsMet(const Limits& limits, const Outcome& outcome);

}  // namespace brood
