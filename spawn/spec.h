// SPDX-License-Identifier: Apache-2.0

// How one process is isolated (Spec), and what runs inside (Command).
//
// Both are plain values, which any thread may build and copy. Nothing here touches the kernel;
// spawn/plan/blueprint.h turns a Spec into what the child executes.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace brood {

// namespaces(7), in the order their names are printed.
enum class NamespaceKind : std::uint8_t { kMount, kPid, kNet, kIpc, kUts, kUser, kCgroup, kTime };
inline constexpr std::size_t kNamespaceCount = 8;
inline constexpr std::array<NamespaceKind, kNamespaceCount> kNamespaceKinds = {
    NamespaceKind::kMount, NamespaceKind::kPid,  NamespaceKind::kNet,    NamespaceKind::kIpc,
    NamespaceKind::kUts,   NamespaceKind::kUser, NamespaceKind::kCgroup, NamespaceKind::kTime};

// "mount", "pid", ... as used on the command line and in JSON.
std::string_view NamespaceName(NamespaceKind kind);
// The name under /proc/PID/ns: "mnt", "pid", ...
std::string_view NamespaceProcName(NamespaceKind kind);
// Where /proc shows a namespace of a process. For time the one of its children: an isolate is born
// in the host's and enters its own only when it execs, which may be yet to come.
std::string NamespacePath(int pid, NamespaceKind kind);
// The CLONE_NEW* flag of clone(2) and setns(2).
std::uint64_t NamespaceFlag(NamespaceKind kind);

enum class NamespaceMode : std::uint8_t {
  kNew,   // a fresh one for this worker
  kHost,  // the launcher's own
  kJoin,  // an existing one, given by path
};

struct NamespaceChoice {
  NamespaceMode mode = NamespaceMode::kNew;
  // kJoin: a file such as /proc/PID/ns/net or /run/netns/NAME. Opened once, when planned.
  std::string path;
};

enum class RootMode : std::uint8_t {
  kHostReadOnly,  // the launcher's whole tree, read-only, with private /proc /dev /tmp /run
  kReadOnly,      // `directory`, read-only
  kReadWrite,     // `directory`, writes go to it
  kOverlay,       // `directory`, writes go to a tmpfs that ends with the worker
};

struct Root {
  RootMode mode = RootMode::kHostReadOnly;
  std::string directory;                       // absolute; empty only for kHostReadOnly
  std::uint64_t overlay_bytes = 256ULL << 20;  // size limit of kOverlay's upper layer
};

struct Bind {
  std::string source;  // absolute, on the host; opened once, when planned
  std::string target;  // absolute, inside; must exist
  bool read_only = false;
};

struct Tmpfs {
  std::string target;  // absolute, inside; must exist
  std::uint64_t bytes = 64ULL << 20;
  std::uint32_t mode = 0755;
};

struct Rlimit {
  int resource = 0;  // RLIMIT_*
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

// What a cgroup may read and write of one block device in a second (io.max). Absent: no limit.
struct IoLimit {
  std::uint32_t major = 0;  // of the whole disk: the kernel limits no partition
  std::uint32_t minor = 0;
  std::optional<std::uint64_t> read_bytes = {};   // rbps
  std::optional<std::uint64_t> write_bytes = {};  // wbps
  std::optional<std::uint64_t> read_ops = {};     // riops
  std::optional<std::uint64_t> write_ops = {};    // wiops

  friend bool operator==(const IoLimit&, const IoLimit&) = default;
};

// cgroup v2 limits, set before the worker starts. Each needs its controller; if that is missing,
// planning fails and names it.
struct Limits {
  std::optional<std::uint64_t> memory_bytes =
      {};  // memory.max: beyond it, all processes are killed
  std::optional<std::uint64_t> memory_high_bytes = {};  // memory.high: beyond it, they are slowed
  // memory.swap.max. With memory_bytes, absent means no swap, which would soften that limit.
  std::optional<std::uint64_t> swap_bytes = {};
  std::optional<std::uint64_t> pids = {};           // pids.max
  std::optional<double> cpus = {};                  // cpu.max, in whole cpus
  std::optional<std::uint64_t> cpu_period_us = {};  // of cpu.max, 1,000 to 1,000,000
  std::optional<std::uint64_t> cpu_weight = {};     // cpu.weight, 1 to 10,000; the kernel's is 100
  std::vector<IoLimit> io = {};                     // io.max
  std::optional<std::uint64_t> io_weight = {};      // io.weight, 1 to 10,000; the kernel's is 100
  std::string cpuset_cpus = {};                     // cpuset.cpus, as "0-3,7"; empty: all
  std::string cpuset_mems = {};                     // cpuset.mems: memory nodes, likewise

  bool any() const { return *this != Limits{}; }
  // Takes over each limit that `other` sets.
  void Override(const Limits& other);

  friend bool operator==(const Limits&, const Limits&) = default;
};

enum class SeccompMode : std::uint8_t { kDefault, kOff, kFile };

struct SeccompChoice {
  SeccompMode mode = SeccompMode::kDefault;
  std::string file;  // kFile: a profile in the OCI runtime-spec's JSON form
};

// Offsets of the time namespace's clocks against the host's (time_namespaces(7)).
struct TimeOffsets {
  std::chrono::nanoseconds monotonic{0};
  std::chrono::nanoseconds boottime{0};
  bool any() const { return monotonic.count() != 0 || boottime.count() != 0; }
};

enum class Reuse : std::uint8_t {
  kNamespaces,  // the user and network namespaces, proven clean; all else is new. Not with
                // capabilities, another filter than the default, nesting, a namespace that is
                // joined, or one of pid, mount, ipc and user that is the host's
  kNone,
};

// How one process is isolated. The default is full isolation on the host's read-only tree.
struct Spec {
  std::array<NamespaceChoice, kNamespaceCount> namespaces;
  TimeOffsets time_offsets;

  Root root;
  std::vector<Bind> binds;
  std::vector<Tmpfs> tmpfs;
  std::uint64_t tmp_bytes = 64ULL << 20;  // private /tmp and /dev/shm, each

  std::string hostname = "brood";         // only with a new UTS namespace
  std::uint32_t uid = 0;                  // inside
  std::uint32_t gid = 0;                  // inside
  std::vector<std::string> capabilities;  // kept, as "NET_ADMIN" or "CAP_NET_ADMIN"; default none
  SeccompChoice seccomp;
  // May make namespaces of its own, as nested sandboxes need: the default filter allows the calls
  // for that, it can mount a /proc in them, and as root it keeps CAP_SETFCAP, without which it
  // could not map its own id (user_namespaces(7)).
  bool nesting = false;
  // Its first process is brood's init. It starts the command, passes signals on to it and reaps
  // orphaned processes. When the command ends, it ends with the command's exit status (128+n when
  // signal n ended that), and everything else in the pid namespace is killed. Needs a new pid
  // namespace.
  bool init = false;
  std::vector<Rlimit> rlimits;
  Limits limits;
  bool use_cgroup = true;  // own leaf; false leaves the worker in the launcher's cgroup
  // What a pool's worker may get from one that has ended.
  Reuse reuse = Reuse::kNamespaces;

  NamespaceChoice& ns(NamespaceKind kind) { return namespaces[static_cast<std::size_t>(kind)]; }
  const NamespaceChoice& ns(NamespaceKind kind) const {
    return namespaces[static_cast<std::size_t>(kind)];
  }
  bool is_new(NamespaceKind kind) const { return ns(kind).mode == NamespaceMode::kNew; }
};

enum class StdioMode : std::uint8_t {
  kInherit,   // the launcher's 0, 1 and 2
  kNull,      // /dev/null
  kCapture,   // stdin /dev/null; stdout and stderr collected into the Outcome, bounded
  kFds,       // the three descriptors given
  kTerminal,  // a pseudo-terminal of the worker's own devpts; fds[0] is a Unix socket over which
              // the worker sends its master, with one byte. End-of-file: it did not get so far
  kEndpoint,  // stdin is /dev/null, stdout and stderr are fds[1] and fds[2]; before it runs the
              // command, the worker sends TCP sockets of its network namespace over the Unix
              // socket fds[0], one byte with each: one that listens on `port` of 127.0.0.1; or
              // `sockets` that are not connected, with which one reaches what listens there. They
              // are non-blocking. End-of-file: it did not get so far
};

inline constexpr std::uint16_t kMaxEndpointSockets = 128;

struct Stdio {
  StdioMode mode = StdioMode::kNull;
  // kFds, kTerminal, kEndpoint: borrowed until the launch returns.
  std::array<int, 3> fds{-1, -1, -1};
  std::size_t capture_bytes = 1ULL << 20;  // kCapture: kept of each stream; the rest is counted
  std::uint16_t rows = 0;                  // kTerminal: its size; 0: to be set through the master
  std::uint16_t columns = 0;
  std::uint16_t port = 0;     // kEndpoint: either this
  std::uint16_t sockets = 0;  // or this, kMaxEndpointSockets at most
  // kFds, kEndpoint: they come from another process than the launcher, perhaps with fewer rights.
  bool foreign = false;
};

// What runs inside: one request.
struct Command {
  std::vector<std::string> argv;
  std::vector<std::string> env;  // "NAME=value"; PATH here is searched for argv[0]
  std::string cwd = "/";         // absolute, inside
  Stdio stdio;
  std::optional<std::chrono::nanoseconds> timeout;  // wall clock, launch to exit
};

// The environment a worker gets when the caller names none: PATH, HOME, LANG, TERM.
std::vector<std::string> DefaultEnvironment();

// Checks everything that needs no kernel: absolute paths without NUL bytes, sizes above zero, names
// of capabilities, ids, contradictions. OK, or kInvalidArgument with a sentence.
absl::Status Validate(const Spec& spec);
absl::Status Validate(const Command& command);

}  // namespace brood
