// SPDX-License-Identifier: Apache-2.0

#include "spawn/usage.h"

namespace brood {

std::string_view OomCauseName(OomCause cause) {
  return cause == OomCause::kOwnLimit ? "own_limit" : "above";
}

std::optional<OomCause> CauseOfOom(const LeafUsage& usage) {
  if (usage.oom_kills.value_or(0) == 0 || !usage.oom_events) return std::nullopt;
  // `oom` is counted where the limit is (and above), `oom_kill` where the victim was: so a kill
  // without the former came from further up.
  return *usage.oom_events > 0 ? OomCause::kOwnLimit : OomCause::kAbove;
}

}  // namespace brood
