// What each step of a spawn does, and what to do when the kernel refuses it.
#pragma once

#include <string_view>

#include "spawn/failure.h"

namespace brood {

// "mounting /proc": what a step does, to start a sentence with.
std::string_view StepAction(Step step);

// What the reader can do about `error` (an errno) at `step`; empty when there is nothing to add.
std::string_view Advice(Step step, int error);

}  // namespace brood
