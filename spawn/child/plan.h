// SPDX-License-Identifier: Apache-2.0

// A plan: everything the child does, worked out beforehand as plain data.
//
// A Spec becomes a flat, relocatable block: a header, lists of operations, their strings, the
// compiled seccomp filter. The same block serves the cold child (which shares or copies the
// launcher's memory) and the zygote (which maps it from a memfd); nothing in it is a pointer.
//
//   cold:      `worker` holds all operations, run by one child
//   template:  the zygote runs `tmpl` once, in the mount namespace that keeps the template's tree,
//              and `home` once, in the tiny one it then lives in; before each clone it runs
//              `copies`, which copy that tree; the worker runs `worker`. With slots, it clones
//              cloners, which run the first `slot_ops` of these, and their workers run the rest
//
// In both, the process that maps a worker's ids then runs `idmaps`.
//
// Freestanding: the child includes this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spawn/base/kernel.h"
#include "spawn/failure.h"

namespace brood {

// What one operation does. `text` are offsets of strings, `number` plain arguments.
//
// A place is a path that is resolved once, with openat2, below the root that has been entered, and
// through no link; before a root has been entered it is the host's. What makes or hides a file
// works on the last name of its path in the directory that kGo has gone to: its path is there to be
// told.
enum class OpCode : std::uint16_t {
  kSetns,        // setns(fds[index], number[0])
  kUnshare,      // unshare(number[0])
  kTimeOffsets,  // write text[0] into /proc/self/timens_offsets
  kWriteFile,    // write text[1] into text[0]
  kEnterTime,    // enter the unshared time namespace, whose CLOCK_MONOTONIC is number[0] ns ahead
  kMakePrivate,  // no mount event leaves or enters
  kBindPath,     // trees[index] = copy of the place text[0]; number[0] = 1: with submounts
  kNewMount,  // trees[index] = new mount of type text[0], MOUNT_ATTR_* number[0]; where the kernel
              // refuses one, a copy of text[1], if there is one, or number[1] = 1: none; the
              // mailbox is told then
  kTreeAttributes,  // set number[0] on trees[index]; number[1] = 1: with submounts
  kAttach,   // mount trees[index] on the place text[0]; number[0] = 1: unless it cannot be reached
  kMount,    // mount(text[0] type, place text[1], text[2] options, number[0] flags); leaves the
             // working directory below the new mount
  kRemount,  // mount flags of the place text[0] become number[0]
  kGo,       // the place text[0] becomes the working directory
  kMask,     // hide text[0], if it is there; number[0] = 1: a directory
  kWriteProtect,   // make text[0] read-only, if it is there
  kMakeDirectory,  // text[0], mode number[0]; one that exists is fine
  kMakeFile,       // text[0], with text[1] or as it is; number[0] = 1: where the worker may make it
  kMakeSymlink,    // text[0] pointing to text[1]
  kEnterRoot,      // make the mount at the place text[0] the root, and detach the old one
  kEnterTree,      // make trees[index] the root; the old one lies below it, out of reach
  kEnterMount,     // make the mount at text[0] the root; the old one lies below it
  kRootAt,         // places are below the place text[0] from here on
  kHostname,       // text[0], number[0] bytes
  kLoopback,       // bring lo up; this and the next two not in namespaces that are used again
  kNetDefaults,    // write text[1] into text[0] below /proc, for the new network namespace;
                   // number[0] = 1: below the /proc that trees[index] is
  kSeal,           // the same, for the namespaces of a slot; number[1] = 1: where it cannot be
                   // written they are not to be used again
  kNewSession,     // leave the launcher's session and terminal
  kNewKeyring,     // leave the launcher's session keyring
  kBounding,       // drop all up to number[1] but number[0] from the bounding set
  kSetIds,         // uid number[0], gid number[1]; index bit 0: clear groups, bit 1: keep caps,
                   // bit 2: groups may stay where setgroups(2) is denied
  kUndumpable,     // no process may trace it or look at its memory before its exec
  kCapabilities,   // keep number[0], ambient too
  kParentDeath,    // die with the launcher
  kNoNewPrivs,
  kRlimit,   // resource `index`: soft number[0], hard number[1]
  kSeccomp,  // install the plan's filter
  kIdmap,    // trees[index] shows its owners as the worker's ids; run by the process that maps them
};

struct Op {
  OpCode code;
  Step step;  // what a failure of it is called
  std::uint16_t index = 0;
  std::uint16_t reserved = 0;
  std::uint32_t text[3] = {0, 0, 0};  // 0: none
  std::uint32_t padding = 0;
  std::uint64_t number[2] = {0, 0};
};

// Who writes the id maps of a worker's new user namespace.
enum class MapsBy : std::uint8_t {
  kNobody,    // there is none
  kCloner,    // the process that clones the worker, from the mailbox
  kLauncher,  // a cold worker's launcher, with the help of programs that may (newuidmap)
};

struct OpList {
  std::uint32_t offset = 0;
  std::uint32_t count = 0;
};

// Most detached mount trees (their numbers lie on the worker's stack), descriptors, and operations
// that a plan may have.
inline constexpr std::size_t kMaxTrees = 1024;
inline constexpr std::size_t kMaxPlanFds = 16;
inline constexpr std::size_t kMaxOps = 4096;
// Operations of a worker whose times are noted.
inline constexpr std::size_t kMaxTimedOps = 160;

struct Plan {
  std::uint32_t bytes = 0;  // of the whole block
  std::uint32_t tree_count = 0;
  OpList tmpl;
  OpList home;
  OpList copies;
  OpList idmaps;
  OpList worker;
  // The first operations of `worker`: those that a slot's cloner runs once, for all its workers,
  // and after them those that need no mapped ids.
  std::uint32_t slot_ops = 0;
  std::uint32_t early_ops = 0;  // both
  std::uint32_t seccomp_offset = 0;
  // Instructions; 0: no filter. With slots, the zygote installs it for all its workers.
  std::uint32_t seccomp_count = 0;
  std::uint32_t uid_map = 0;  // texts of the maps that every worker gets; 0: from its mailbox
  std::uint32_t gid_map = 0;
  std::uint64_t setup_key = 0;    // of that filter (spawn/child/syscalls.h)
  std::uint64_t clone_flags = 0;  // CLONE_NEW* of the worker's birth
  std::uint64_t slot_flags = 0;   // CLONE_NEW* of what its slot has for it; 0: there are no slots
  std::uint8_t share_memory = 0;  // CLONE_VM until exec; never with a memory limit
  std::uint8_t late_seccomp = 0;  // the filter would refuse the launch itself: install it last
  MapsBy maps_by = MapsBy::kNobody;
  std::uint8_t deny_setgroups = 0;  // an unprivileged launcher must, before gid_map
  std::uint8_t record_ops = 0;      // note the time after every operation
  // The zygote is cloned into a user and a mount namespace of its own, owned by its launcher: it
  // can then prepare what an ordinary user otherwise could not.
  std::uint8_t zygote_user = 0;
  std::uint8_t zygote_range = 0;  // with a range of ids, mapped by newuidmap
  std::uint8_t reserved_flag = 0;
  // What a zygote keeps of its capabilities once its template is ready; ~0: all.
  std::uint64_t zygote_capabilities = ~std::uint64_t{0};
  // Test switch: the step `fail_step`, where it is operation `fail_index` of its list (0xffff:
  // any), reports fail_error instead of running. Zero in every plan that was not asked to fail.
  std::int32_t fail_error = 0;
  std::uint16_t fail_index = 0;
  Step fail_step = Step::kNone;
  std::uint8_t fail_in_template = 0;  // in the zygote's lists, else in the worker's and around it
  // The worker clones the command and becomes an init, whose executable is fds[init_fd].
  std::uint8_t init = 0;
  std::uint8_t init_fd = 0;
  std::uint8_t reserved_end[5] = {};

  const Op* ops(const OpList& list) const {
    return reinterpret_cast<const Op*>(reinterpret_cast<const char*>(this) + list.offset);
  }
  const char* text(std::uint32_t offset) const {
    return offset == 0 ? nullptr : reinterpret_cast<const char*>(this) + offset;
  }
  kernel::SeccompFilter seccomp() const {
    const char* filter = reinterpret_cast<const char*>(this) + seccomp_offset;
    return {static_cast<unsigned short>(seccomp_count),
            reinterpret_cast<const sock_filter*>(filter)};
  }
};
static_assert(std::is_trivially_copyable_v<Plan> && std::is_standard_layout_v<Plan>);
static_assert(std::is_trivially_copyable_v<Op> && sizeof(Op) == 40);
// No padding: it would carry bytes of the launcher's stack into memory that workers share.
static_assert(std::has_unique_object_representations_v<Plan>);
static_assert(std::has_unique_object_representations_v<Op>);

}  // namespace brood
