// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/machine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <limits>
#include <tuple>

#include "spawn/child/syscalls.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/subordinate_ids.h"
#include "spawn/host/without.h"

namespace brood {
namespace {

std::uint64_t EffectiveCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return 0;
  return data[0].effective | std::uint64_t{data[1].effective} << 32;
}

// Inside a user namespace only the ids that it maps can be handed on.
bool MapCovers(const char* file, std::uint64_t first, std::uint64_t end) {
  std::ifstream map(file);
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  while (map >> inside >> outside >> count) {
    if (inside <= first && end <= inside + count) return true;
  }
  return false;
}

Machine Probe() {
  const std::uint64_t effective = EffectiveCapabilities();
  const auto has = [&](int capability) { return (effective >> capability & 1) != 0; };
  Machine machine;
  machine.capabilities = effective;
  machine.uid = geteuid();
  machine.gid = getegid();
  machine.exec_enters_time = KernelIsAtLeast(6, 2) && !Without(Way::kExecTime);
  // The capability counts only where our mounts belong to our own user namespace.
  // Changing nothing is enough to be told. Copying a mount would tell, too, but taking that down
  // again waits for a grace period of RCU.
  if (has(CAP_SYS_ADMIN)) {
    machine.mount_admin = sys::MountSetattr(-1, "", kernel::kAtEmptyPath, kernel::MountAttr{}) == 0;
  }
  // By release first, since the probe makes a mount namespace.
  machine.empty_mounts = machine.mount_admin && KernelIsAtLeast(7, 1) &&
                         !Without(Way::kEmptyMounts) &&
                         CloneKnows(kernel::kCloneNewNs | kernel::kCloneEmptyMntns);
  constexpr ino_t kInitialUserNamespace = 0xeffffffd;  // PROC_USER_INIT_INO, since 3.8
  struct stat user = {};
  machine.initial_user =
      stat("/proc/self/ns/user", &user) == 0 && user.st_ino == kInitialUserNamespace;
  machine.makes_nodes =
      machine.initial_user && machine.mount_admin && has(CAP_MKNOD) && !Without(Way::kMknod);
  machine.id_ranges = has(CAP_SETUID) && has(CAP_SETGID) && has(CAP_SYS_ADMIN) &&
                      (machine.initial_user ||  // where every id is
                       (MapCovers("/proc/self/uid_map", kFirstRangeId, kEndRangeId) &&
                        MapCovers("/proc/self/gid_map", kFirstRangeId, kEndRangeId)));
  // Whoever has the rights of root in a user namespace stays with the ids that are in it.
  machine.subordinate_ids =
      !machine.id_ranges && !machine.mount_admin && OurSubordinateIds().usable;
  return machine;
}

}  // namespace

// clone3 refuses a flag that it does not know with EINVAL before it looks at anything else. One
// that it knows comes as far as the cgroup, which is none: nobody is born.
bool CloneKnows(std::uint64_t flags) {
  kernel::CloneArgs args;
  args.flags = kernel::kCloneVm | kernel::kCloneVfork | kernel::kCloneIntoCgroup | flags;
  args.cgroup = std::numeric_limits<int>::max();
  int pidfd = -1;  // written before the cgroup is looked at, and given back
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  return syscall(SYS_clone3, &args, sizeof(args)) < 0 && errno == EBADF;
}

bool KernelIsAtLeast(int major, int minor) {
  utsname names{};
  int have_major = 0;
  int have_minor = 0;
  if (uname(&names) != 0 || std::sscanf(names.release, "%d.%d", &have_major, &have_minor) != 2) {
    return false;
  }
  return std::tie(have_major, have_minor) >= std::tie(major, minor);
}

const Machine& ThisMachine() {
  static const Machine machine = Probe();
  return machine;
}

}  // namespace brood
