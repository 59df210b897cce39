// SPDX-License-Identifier: Apache-2.0

#include "pool/stress/ceiling.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "spawn/limits/limits.h"

namespace brood::limits {
namespace {

void Lower(Ceiling& ceiling, const LimitReading& limit, std::uint64_t each) {
  if (!limit.maximum || !limit.used) return;
  const std::uint64_t room = *limit.maximum - std::min(*limit.used, *limit.maximum);
  if (room / each < ceiling.count) ceiling = {limit.name, room / each};
}

}  // namespace

Ceiling Predict(const Unit& unit, std::uint64_t room, std::uint64_t reserve) {
  Ceiling ceiling{std::string(unit.limit.empty() ? "none" : unit.limit), room};
  // The errno picks which limits are looked at: all that a further one of these counts against.
  if (unit.cost.descriptors > 0) {
    for (const int error : {EMFILE, ENFILE}) {
      for (const LimitReading& limit : LimitsBehind({.call = LimitedCall::kOpen, .error = error})) {
        Lower(ceiling, limit, unit.cost.descriptors);
      }
    }
  }
  if (unit.cost.processes > 0) {
    for (const LimitReading& limit : LimitsBehind({.call = LimitedCall::kClone, .error = EAGAIN})) {
      Lower(ceiling, limit, unit.cost.processes);
    }
  }
  if (unit.cost.bytes > 0) {
    const std::uint64_t left = MeminfoBytes("MemAvailable:");
    const std::uint64_t fit = (left - std::min(left, reserve)) / unit.cost.bytes;
    if (fit < ceiling.count) ceiling = {"memory", fit};
  }
  return ceiling;
}

}  // namespace brood::limits
