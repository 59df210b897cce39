// SPDX-License-Identifier: Apache-2.0

#include "pool/burst/floor_child.h"

namespace brood {

void FloorChildMain(void* argument) {
  FloorChild& child = *static_cast<FloorChild*>(argument);
  child.error = static_cast<int>(-sys::Execve(child.path, child.argv, child.envp));
  sys::ExitGroup(127);
}

}  // namespace brood
