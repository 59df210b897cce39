// SPDX-License-Identifier: Apache-2.0

// The limits that stop a machine from making one more process, namespace, cgroup, mount or
// descriptor: where each is set, what it is now, and which one an errno meant.
//
// The errno misleads: ENOSPC from clone is a count of namespaces or a nesting depth, EAGAIN any of
// four counts, EMFILE of inotify_init no count of descriptors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

// One limit as it stands. A plain value.
struct LimitReading {
  std::string name = {};                      // "user.max_net_namespaces", "pids.max"
  std::string what = {};                      // "net namespaces of one user"
  std::string where = {};                     // the file, or the call, that sets it
  std::optional<std::uint64_t> maximum = {};  // none when unlimited, or when it cannot be read
  // How many there are. None where the kernel does not tell: it shows no count of namespaces.
  std::optional<std::uint64_t> used = {};
  std::string raise = {};    // the command that raises it; empty for what is built into the kernel
  std::uint64_t wanted = 1;  // how many more were asked for

  bool refused = false;  // one more was tried just now, and refused; or nothing else can have been

  // Whether those wanted are too many, by the trial or the numbers. False when neither tells.
  bool Full() const { return refused || (maximum && used && *used + wanted > *maximum); }
};

// What was called when the kernel refused.
enum class LimitedCall : std::uint8_t {
  kClone,         // clone3 or fork, perhaps with new namespaces
  kUnshare,       // unshare, with new namespaces
  kMount,         // mount, move_mount, open_tree(OPEN_TREE_CLONE)
  kMakeCgroup,    // mkdir in a cgroup
  kOpen,          // whatever gives a descriptor
  kInotifyInit,   // inotify_init1
  kInotifyWatch,  // inotify_add_watch
  kAddKey,        // add_key, keyctl(KEYCTL_JOIN_SESSION_KEYRING)
  kRing,          // io_uring_setup, and io_uring_register with memory that is pinned
  kMap,           // mmap, brk, mlock
  kSeccomp,       // seccomp(SECCOMP_SET_MODE_FILTER)
};

struct LimitQuestion {
  LimitedCall call = LimitedCall::kClone;
  int error = 0;                 // the errno
  std::uint64_t namespaces = 0;  // CLONE_NEW* that were asked for
  std::string cgroup = {};       // kMakeCgroup: directory of the parent
  // What a caller knows that holds all there are in its user namespace; else none is tried.
  std::optional<std::uint64_t> made = {};
  std::optional<std::uint64_t> depth = {};  // of the namespace that was to be nested in
  // The rlimit that the call counts against (RLIMIT_NOFILE, RLIMIT_AS) as it was at the refusal,
  // where it has been raised since to look about.
  std::optional<std::uint64_t> rlimit = {};
  std::uint64_t wanted = 1;    // bytes of memory that were asked for, where the limit is of bytes
  std::string proc = "/proc";  // tests have one of their own
};

// The limits that this call's errno can mean, the most likely first: those that are full by the
// kernel's own numbers, then those whose numbers it does not show, then the rest. Empty when the
// errno does not speak of a limit. Reads files below `proc` and cgroups; takes a millisecond or,
// with thousands of processes, some ten. Never fails: what cannot be read is left out. Namespaces
// are tried, each kind in a child without exit signal that ends at once; with `made` or a `proc` of
// its own nothing is tried.
std::vector<LimitReading> LimitsBehind(const LimitQuestion& question);

// "user.max_net_namespaces is used up (maximum 5): sysctl -w user.max_net_namespaces=10"; several
// when the numbers do not decide. Empty when there are none.
std::string LimitSentence(const std::vector<LimitReading>& limits);

// The same of what LimitsBehind finds, when the kernel's numbers decide; else empty: for the end of
// an error's sentence, which says by itself what the kernel said.
std::string FullLimit(const LimitQuestion& question);

// The bytes behind a key of /proc/meminfo, such as "MemAvailable:". 0 when it cannot be read, for
// instance because no descriptor is left to read it with.
std::uint64_t MeminfoBytes(std::string_view key);

// All threads of the machine, by /proc/loadavg, whatever pid namespace reads it.
std::optional<std::uint64_t> MachineThreads(const std::string& proc = "/proc");

// Every pids.max over this process, own cgroup first: of v1's hierarchy and of v2's.
std::vector<LimitReading> PidsLimits(const std::string& proc = "/proc");

}  // namespace brood
