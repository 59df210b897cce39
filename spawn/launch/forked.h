// SPDX-License-Identifier: Apache-2.0

// The isolation of forked functions: a process that loads itself once, and a clone of it for each
// call.
//
// The process is isolated as the spec says and has no capability. It may make namespaces
// (Spec::nesting), and each call is cloned into new user, pid, mount, ipc, uts and, if the spec has
// one, network namespaces, in a cgroup of its own. There it adds what no two calls may share, gives
// up every capability, and installs the spec's filter (PlanKind::kForked). spawn/ready is the code
// that does it.
#pragma once

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood {

struct ForkedSpecs {
  Spec process;
  Spec call;  // for a plan of PlanKind::kForked
};

// kInvalidArgument for a spec whose calls could not be kept apart: without new user, pid, mount and
// ipc namespaces, or with a root that its calls could write to (overlay, rw).
absl::StatusOr<ForkedSpecs> SplitForked(const Spec& spec);

// libbrood_ready.so in sealed memory.
absl::StatusOr<UniqueFd> ReadyLibrary();

// `command` with what makes a forked function of it: the library preloaded, a socket to speak
// spawn/ready/wire.h on, and `output` for what the process itself writes. All are borrowed until
// the launch.
Command ForkedCommand(Command command, int socket, int library, int output);

}  // namespace brood
