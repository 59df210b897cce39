// Mounts that outlive their last process for a moment.
#pragma once

#include "spawn/unique_fd.h"

namespace brood {

// Holds the mount namespace of a worker; none when it has ended already. `proc_fd` is a /proc.
//
// The last to leave a mount namespace takes its mounts down and waits for an RCU grace period. That
// would be the worker, before anybody is told that it has ended; whoever holds the namespace does it
// instead, when the descriptor is closed.
UniqueFd KeepMounts(int pidfd, int proc_fd, int pid);

}  // namespace brood
