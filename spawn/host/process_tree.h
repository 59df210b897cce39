// SPDX-License-Identifier: Apache-2.0

// A process and what it has started, as /proc shows them: where no pid namespace and no cgroup
// holds them together.
#pragma once

#include <sys/types.h>

#include <vector>

namespace brood {

// 0 where it has ended, or its parent is in no pid namespace that this process sees.
int ParentOf(int pid);
// The children of a process, of all its threads. Empty where it has ended.
std::vector<int> ChildrenOf(int pid);

// Kills the process `pid`, which must not have been reaped, all that descends from it, and all
// that is in its session, if it leads one. They are stopped first, so that none escapes by starting
// another. What has left the session and lost its parent is not found.
void KillTree(int pid);

// A file as a process that has it open sees it (stat(2)).
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
};

// Whether a thread of `pid` or of its descendants is in read(2), or a call like it, of this file:
// it waits for input. False also where the kernel does not tell (/proc/PID/syscall).
bool WaitsToRead(int pid, const FileIdentity& file);

}  // namespace brood
