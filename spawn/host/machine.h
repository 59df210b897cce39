// SPDX-License-Identifier: Apache-2.0

// What this process is and may do, found once by asking the kernel.
#pragma once

#include <cstdint>

namespace brood {

struct Machine {
  bool mount_admin = false;   // CAP_SYS_ADMIN in the user namespace that owns our mounts
  bool initial_user = false;  // in the machine's own user namespace
  // May make device nodes: needs CAP_MKNOD in the machine's own user namespace, whatever ids
  // another one maps.
  bool makes_nodes = false;
  bool id_ranges = false;  // may map other ids than its own into a user namespace
  // May have other ids mapped, by newuidmap: see spawn/host/subordinate_ids.h. Never with
  // id_ranges.
  bool subordinate_ids = false;
  // exec takes a process into the time namespace that it has unshared (Linux 6.2). Before, only
  // fork took its children there, and it itself could neither vfork nor start a thread: EINVAL.
  bool exec_enters_time = false;
  // A mount namespace can start empty (CLONE_EMPTY_MNTNS, Linux 7.1), and not as a copy of all
  // mounts. Only looked for with mount_admin.
  bool empty_mounts = false;
  std::uint64_t capabilities = 0;  // effective, as a mask
  std::uint32_t uid = 0;           // effective
  std::uint32_t gid = 0;
};

// Facts of the calling process. Read once, then cached; thread-safe.
const Machine& ThisMachine();

// By the release that the kernel calls itself.
bool KernelIsAtLeast(int major, int minor);

// Whether clone3 knows all of these flags, some of which may need privilege. Makes no process, but
// costs as much.
bool CloneKnows(std::uint64_t flags);

}  // namespace brood
