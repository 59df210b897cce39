// SPDX-License-Identifier: Apache-2.0

// How far capabilities reach: each counts over what belongs to the user namespace that it is held
// in (user_namespaces(7)).
#pragma once

#include <string>
#include <vector>

#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {

// Capabilities that the spec names and that a worker in a user namespace of its own could do
// nothing with, since what they are for is the host's. Those of "ALL" are not told.
std::vector<Fallback> CapabilitiesWithoutEffect(const Spec& spec);

}  // namespace brood
