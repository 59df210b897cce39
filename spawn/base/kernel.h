// SPDX-License-Identifier: Apache-2.0

// Kernel definitions that Debian 12's headers (Linux 6.1) or glibc 2.36 lack or guard, each with
// the version that brought it. Freestanding: usable in the child and in the zygote.
#pragma once

#include <linux/filter.h>
#include <linux/types.h>

#include <cstddef>
#include <cstdint>

namespace brood::kernel {

// clone(2), clone3(2): linux/sched.h. Repeated because <sched.h> and <linux/sched.h> collide.
inline constexpr std::uint64_t kCloneVm = 0x00000100;
inline constexpr std::uint64_t kCloneFiles = 0x00000400;
inline constexpr std::uint64_t kClonePidfd = 0x00001000;  // 5.2
inline constexpr std::uint64_t kCloneVfork = 0x00004000;
inline constexpr std::uint64_t kCloneParent = 0x00008000;
inline constexpr std::uint64_t kCloneNewNs = 0x00020000;
inline constexpr std::uint64_t kCloneParentSettid = 0x00100000;
inline constexpr std::uint64_t kCloneChildCleartid = 0x00200000;
inline constexpr std::uint64_t kCloneChildSettid = 0x01000000;
inline constexpr std::uint64_t kCloneNewCgroup = 0x02000000;  // 4.6
inline constexpr std::uint64_t kCloneNewUts = 0x04000000;
inline constexpr std::uint64_t kCloneNewIpc = 0x08000000;
inline constexpr std::uint64_t kCloneNewUser = 0x10000000;  // 3.8
inline constexpr std::uint64_t kCloneNewPid = 0x20000000;
inline constexpr std::uint64_t kCloneNewNet = 0x40000000;
inline constexpr std::uint64_t kCloneNewTime = 0x00000080;  // 5.6
inline constexpr std::uint64_t kAllNamespaces = kCloneNewNs | kCloneNewCgroup | kCloneNewUts |
                                                kCloneNewIpc | kCloneNewUser | kCloneNewPid |
                                                kCloneNewNet | kCloneNewTime;
inline constexpr std::uint64_t kCloneClearSighand = 0x100000000;  // 5.5
inline constexpr std::uint64_t kCloneIntoCgroup = 0x200000000;    // 5.7
inline constexpr std::uint64_t kCloneAutoreap = 1ULL << 34;       // 7.1: never with kCloneParent
inline constexpr std::uint64_t kCloneNnp = 1ULL << 35;            // 7.1
inline constexpr std::uint64_t kCloneEmptyMntns = 1ULL << 37;     // 7.1: with kCloneNewNs

// How many user and pid namespaces may lie inside each other, the outermost not counted:
// user_namespace.c and pid_namespace.c (MAX_PID_NS_LEVEL).
inline constexpr std::uint64_t kUserNamespaceDepth = 33;
inline constexpr std::uint64_t kPidNamespaceDepth = 32;

// The argument of clone3(2), version 2 (88 bytes, 5.7: with `cgroup`).
struct CloneArgs {
  std::uint64_t flags = 0;
  std::uint64_t pidfd = 0;
  std::uint64_t child_tid = 0;
  std::uint64_t parent_tid = 0;
  std::uint64_t exit_signal = 0;
  std::uint64_t stack = 0;  // lowest address
  std::uint64_t stack_size = 0;
  std::uint64_t tls = 0;
  std::uint64_t set_tid = 0;
  std::uint64_t set_tid_size = 0;
  std::uint64_t cgroup = 0;
};
static_assert(sizeof(CloneArgs) == 88);

// The first version of struct pidfd_info (linux/pidfd.h, 6.13) and the ioctl that fills it in.
struct PidfdInfo {
  std::uint64_t mask = 0;  // what is asked for, and then what is told
  std::uint64_t cgroup = 0;
  std::uint32_t ids[11] = {};
  std::int32_t exit_code = 0;  // a wait status
};
static_assert(sizeof(PidfdInfo) == 64);
inline constexpr unsigned long kPidfdGetInfo = 0xc040ff0b;  // _IOWR(0xff, 11, PidfdInfo)
inline constexpr std::uint64_t kPidfdInfoExit = 1U << 3;    // 6.15

// mount_setattr(2), 5.12: linux/mount.h, which collides with <sys/mount.h> in glibc 2.36.
struct MountAttr {
  std::uint64_t attr_set = 0;
  std::uint64_t attr_clr = 0;
  std::uint64_t propagation = 0;
  std::uint64_t userns_fd = 0;
};
inline constexpr std::uint64_t kMountAttrRdonly = 0x00000001;
inline constexpr std::uint64_t kMountAttrNosuid = 0x00000002;
inline constexpr std::uint64_t kMountAttrNodev = 0x00000004;
inline constexpr std::uint64_t kMountAttrNoexec = 0x00000008;
inline constexpr std::uint64_t kMountAttrIdmap = 0x00100000;

inline constexpr unsigned kOpenTreeClone = 1;  // 5.2
inline constexpr unsigned kOpenTreeCloexec = 02000000;
inline constexpr unsigned kAtRecursive = 0x8000;
inline constexpr unsigned kAtEmptyPath = 0x1000;
inline constexpr unsigned kMoveMountFromEmptyPath = 0x4;  // MOVE_MOUNT_F_EMPTY_PATH, 5.2
inline constexpr unsigned kMoveMountToEmptyPath = 0x40;   // MOVE_MOUNT_T_EMPTY_PATH, 5.2

// fsopen(2), fsconfig(2), fsmount(2), 5.2.
inline constexpr unsigned kFsopenCloexec = 1;
inline constexpr unsigned kFsconfigSetString = 1;
inline constexpr unsigned kFsconfigCreate = 6;
inline constexpr unsigned kFsmountCloexec = 1;

// mount(2), umount2(2).
inline constexpr unsigned long kMsRdonly = 1;
inline constexpr unsigned long kMsNosuid = 2;
inline constexpr unsigned long kMsNodev = 4;
inline constexpr unsigned long kMsNoexec = 8;
inline constexpr unsigned long kMsRemount = 32;
inline constexpr unsigned long kMsBind = 4096;
inline constexpr unsigned long kMsRec = 16384;
inline constexpr unsigned long kMsPrivate = 1UL << 18;
inline constexpr int kMntDetach = 2;

// capset(2), version 3.
struct CapHeader {
  std::uint32_t version = 0x20080522;
  int pid = 0;
};
struct CapData {
  std::uint32_t effective = 0;
  std::uint32_t permitted = 0;
  std::uint32_t inheritable = 0;
};

// A compiled seccomp filter as the kernel takes it (struct sock_fprog).
struct SeccompFilter {
  unsigned short length = 0;
  const sock_filter* instructions = nullptr;
};

}  // namespace brood::kernel
