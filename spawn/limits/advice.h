// SPDX-License-Identifier: Apache-2.0

// What each step of a spawn does, and what to do when the kernel refuses it.
#pragma once

#include <string>
#include <string_view>

#include "spawn/failure.h"

namespace brood {

// "mounting /proc": what a step does, to start a sentence with.
std::string_view StepAction(Step step);

// What the reader can do about `error` (an errno) at `step`; empty when there is nothing to add.
std::string_view Advice(Step step, int error);

// The same, with a look at the machine: when its numbers show which limit stopped `step`, that
// limit, its value, and the command that raises it (spawn/limits). Reads /proc and cgroups, and
// tries namespaces in children of its own: for where something has failed already.
std::string AdviceHere(Step step, int error);

}  // namespace brood
