// SPDX-License-Identifier: Apache-2.0

// brood's own ways of spawning, in the default Spec: eight namespaces, a cgroup each, a read-only
// root, no capabilities, the seccomp filter.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "spawn/spec.h"

namespace brood::bench {

// What all rows run: `payload`, an absolute path, with no arguments and no environment.
Command PayloadCommand(const std::string& payload);

// Whether `payload` can be executed here, and would be seen by a worker whose root is the host's
// tree: /tmp, /run and /dev are private inside.
absl::Status CheckPayload(const std::string& payload);

}  // namespace brood::bench
