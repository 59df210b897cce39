// SPDX-License-Identifier: Apache-2.0

// What a new configuration changes of the functions.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "pool/cli/serve_config.h"

namespace brood {

struct FunctionChanges {
  std::vector<ServeFunction> put;    // new, or other than before
  std::vector<std::string> removed;  // their names
};

// A function is another one when its own words are, or those of the template that it names: its
// primed workers are isolated as the old one says.
// One named in `renewed` is another one in any case: what its words lead to may be new.
FunctionChanges ChangedFunctions(const ServeConfig& now, const ServeConfig& next,
                                 const std::set<std::string>& renewed = {});

}  // namespace brood
