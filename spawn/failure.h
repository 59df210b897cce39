// SPDX-License-Identifier: Apache-2.0

// The one record by which code between clone3 and exec reports a failure.
//
// Plain data shared by the launcher, the zygote and the child: {step, index, errno}. The child
// writes it into shared memory; the launcher turns it into a sentence (Blueprint::Describe in
// spawn/plan/blueprint.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace brood {

// What was being done. The index of a failure is the operation's position in the plan's list, so
// that two mounts can be told apart.
enum class Step : std::uint16_t {
  kNone = 0,
  kMapMemory,           // mapping what a zygote shares with its launcher
  kCloneWorker,         // clone3 itself
  kOpenLeaf,            // opening the cgroup leaf for CLONE_INTO_CGROUP
  kHandOver,            // the zygote sending the pidfd to the launcher
  kBegin,               // cloned, but held before exec because its cgroup is frozen
  kMapIds,              // writing uid_map and gid_map
  kIdmapTree,           // mount_setattr(MOUNT_ATTR_IDMAP)
  kCopyTree,            // open_tree(OPEN_TREE_CLONE) of the template
  kJoinNamespace,       // setns
  kUnshare,             // unshare of cgroup, time or mount namespace
  kTimeOffsets,         // writing timens_offsets
  kPrivatePropagation,  // making the mount tree private
  kAttachTree,          // move_mount
  kBindPath,            // open_tree of a path in the child's own tree
  kTreeAttributes,      // mount_setattr of read-only, nosuid, nodev
  kMountProc,
  kMountSys,
  kMountCgroup,
  kMountTmpfs,
  kMountDevpts,
  kMountOverlay,
  kMaskPath,  // hiding or write-protecting something below /proc
  kGo,        // to a directory below the root
  kMakeDirectory,
  kMakeFile,
  kMakeSymlink,
  kRemount,
  kEnterRoot,  // the new root is entered, and the old one detached
  kHostname,
  kLoopback,     // bringing lo up
  kNetDefaults,  // writing sysctls of the new network namespace
  kNewSession,   // setsid
  kNewKeyring,
  kSetIds,       // setgroups, setresgid, setresuid
  kParentDeath,  // PR_SET_PDEATHSIG, or the launcher had died already
  kCapabilities,
  kNoNewPrivs,
  kRlimit,
  kSeccomp,
  kReceiveFds,  // receiving the descriptors of a launch
  kTerminal,    // opening a pseudo-terminal, and sending its master
  kEndpoint,    // making sockets in the worker's own network, and sending them
  kStdio,       // dup3 onto 0, 1, 2
  kCloseFds,    // close_range
  kWorkingDirectory,
  kInit,    // starting the command under an init, and the init
  kReopen,  // a clone reopening the files of a forked function
  kExec,
  kCount
};

// "mount_proc", "exec", ...: stable names, used in JSON.
std::string_view StepName(Step step);

struct Failure {
  Step step = Step::kNone;
  std::uint16_t index = 0;
  std::int32_t error = 0;  // errno, positive
  bool failed() const { return step != Step::kNone; }
};
static_assert(sizeof(Failure) == 8);

// Why the namespaces of a slot (spawn/child/slot.h) were not used again.
enum class SlotFault : std::uint32_t {
  kNone = 0,
  kSockets,    // a socket is left: a process outside holds it, or it has data to send
  kTimeWait,   // a closed connection that waits
  kFragments,  // pieces of packets that wait for the rest
  kUnsealed,   // user namespaces could not be forbidden in it
  kUnknown,    // the kernel's counts could not be read
};
inline constexpr std::size_t kSlotFaults = 6;

// "sockets", "time_wait", ...: stable names, used in JSON; "none".
std::string_view SlotFaultName(SlotFault fault);

// A test switch: makes one step of the child fail with a chosen errno.
struct FaultInjection {
  Step step = Step::kNone;
  int error = 0;
  int index = -1;            // which operation; -1: any of that step
  bool in_template = false;  // in the zygote's operations, not the worker's
};

}  // namespace brood
