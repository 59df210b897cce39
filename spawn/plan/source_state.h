// SPDX-License-Identifier: Apache-2.0

// What the paths of a spec lead to on the host, and what the names of its user and group have.
#pragma once

#include <string>

#include "spawn/spec.h"

namespace brood {

// Differs when a plan of the same spec, made now, would show a worker something else: another
// directory or file under the same name, another mount below it, another seccomp profile or
// namespace, other ids under the same names. To be compared only; what lies inside a directory is
// not looked at.
std::string SourceState(const Spec& spec);

}  // namespace brood
