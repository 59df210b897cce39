// SPDX-License-Identifier: Apache-2.0

#include "spawn/spec.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "spawn/base/capabilities.h"
#include "spawn/base/cpu_text.h"
#include "spawn/base/kernel.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

struct NamespaceFacts {
  std::string_view name;
  std::string_view proc_name;
  std::uint64_t flag;
};

constexpr std::array<NamespaceFacts, kNamespaceCount> kNamespaces{{
    {"mount", "mnt", kernel::kCloneNewNs},
    {"pid", "pid", kernel::kCloneNewPid},
    {"net", "net", kernel::kCloneNewNet},
    {"ipc", "ipc", kernel::kCloneNewIpc},
    {"uts", "uts", kernel::kCloneNewUts},
    {"user", "user", kernel::kCloneNewUser},
    {"cgroup", "cgroup", kernel::kCloneNewCgroup},
    {"time", "time", kernel::kCloneNewTime},
}};

const NamespaceFacts& Facts(NamespaceKind kind) {
  return kNamespaces[static_cast<std::size_t>(kind)];
}

// The kernel takes strings up to their first NUL; one inside would silently mean something else.
absl::Status CheckText(std::string_view what, std::string_view text) {
  if (text.find('\0') != std::string_view::npos) {
    return InvalidError("{} contains a NUL byte, which no kernel interface can carry", what);
  }
  return absl::OkStatus();
}

absl::Status CheckPath(std::string_view what, std::string_view path) {
  BROOD_RETURN_IF_ERROR(CheckText(what, path));
  if (path.empty() || path.front() != '/') {
    return InvalidError("{} must be an absolute path, not \"{}\"", what, path);
  }
  if (path.size() >= 4096) {
    return InvalidError("{} is {} bytes long; the kernel takes paths up to 4095", what,
                        path.size());
  }
  // A path inside that climbs could only be a mistake: ".." stops at the worker's root.
  std::size_t start = 0;
  while (start < path.size()) {
    std::size_t end = path.find('/', start);
    if (end == std::string_view::npos) end = path.size();
    if (path.substr(start, end - start) == "..") {
      return InvalidError("{} may not contain \"..\": \"{}\"", what, path);
    }
    start = end + 1;
  }
  return absl::OkStatus();
}

absl::Status CheckSize(std::string_view what, std::uint64_t bytes) {
  if (bytes == 0) return InvalidError("{} must be above zero bytes", what);
  if (bytes > (1ULL << 60)) return InvalidError("{} of {} bytes is too large", what, bytes);
  return absl::OkStatus();
}

absl::Status CheckWeight(std::string_view what, const std::optional<std::uint64_t>& weight) {
  if (!weight || (*weight >= 1 && *weight <= 10'000)) return absl::OkStatus();
  return InvalidError("the {} weight {} is outside 1 to 10000 (the kernel's own is 100)", what,
                      *weight);
}

absl::Status CheckIo(const IoLimit& io) {
  const std::optional<std::uint64_t> rates[] = {io.read_bytes, io.write_bytes, io.read_ops,
                                                io.write_ops};
  bool any = false;
  for (const std::optional<std::uint64_t>& rate : rates) {
    any |= rate.has_value();
    if (rate == std::uint64_t{0}) {
      return InvalidError("an io limit of 0 for the device {}:{} would stop it for good", io.major,
                          io.minor);
    }
  }
  if (any) return absl::OkStatus();
  return InvalidError("the io limit of the device {}:{} limits nothing", io.major, io.minor);
}

absl::Status CheckLimits(const Limits& limits) {
  if (limits.memory_bytes) {
    BROOD_RETURN_IF_ERROR(CheckSize("the memory limit", *limits.memory_bytes));
  }
  if (limits.memory_high_bytes) {
    BROOD_RETURN_IF_ERROR(CheckSize("memory.high", *limits.memory_high_bytes));
    if (limits.memory_bytes && *limits.memory_high_bytes > *limits.memory_bytes) {
      return InvalidError(
          "memory.high of {} bytes is above the memory limit of {}, so it would never be "
          "met",
          *limits.memory_high_bytes, *limits.memory_bytes);
    }
  }
  if (limits.pids && *limits.pids == 0) {
    return InvalidError("a pids limit of 0 leaves no room for the command itself; use 1 or more");
  }
  if (limits.cpus && !(*limits.cpus >= 0.01 && *limits.cpus <= 100000)) {
    return InvalidError("a cpu limit of {} is outside 0.01 to 100000 cpus", *limits.cpus);
  }
  if (limits.cpu_period_us) {
    if (!limits.cpus) return InvalidError("a cpu period needs a cpu limit");
    BROOD_RETURN_IF_ERROR(CpuMaxText(*limits.cpus, limits.cpu_period_us).status());
  }
  BROOD_RETURN_IF_ERROR(CheckWeight("cpu", limits.cpu_weight));
  BROOD_RETURN_IF_ERROR(CheckWeight("io", limits.io_weight));
  constexpr std::size_t kMostDisks = 64;  // each is a write to the cgroup for each worker
  if (limits.io.size() > kMostDisks) {
    return InvalidError("io limits for {} disks are too many: at most {} may have one",
                        limits.io.size(), kMostDisks);
  }
  for (const IoLimit& io : limits.io) BROOD_RETURN_IF_ERROR(CheckIo(io));
  for (const auto& [what, list] :
       {std::pair{"the cpus of a cpuset", &limits.cpuset_cpus},
        std::pair{"the memory nodes of a cpuset", &limits.cpuset_mems}}) {
    if (list->empty()) continue;
    if (const auto numbers = ParseCpuList(*list); !numbers.ok()) {
      return InvalidError("{}: {}", what, Message(numbers.status()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRoot(const Root& root) {
  if (root.mode == RootMode::kHostReadOnly) {
    if (!root.directory.empty()) {
      return InvalidError("the host's own tree was asked for together with the root {}",
                          root.directory);
    }
    return absl::OkStatus();
  }
  BROOD_RETURN_IF_ERROR(CheckPath("the root directory", root.directory));
  if (root.mode == RootMode::kOverlay) {
    BROOD_RETURN_IF_ERROR(CheckSize("the overlay's size", root.overlay_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view NamespaceName(NamespaceKind kind) { return Facts(kind).name; }
std::string_view NamespaceProcName(NamespaceKind kind) { return Facts(kind).proc_name; }
std::string NamespacePath(int pid, NamespaceKind kind) {
  return fmt::format("/proc/{}/ns/{}", pid,
                     kind == NamespaceKind::kTime ? "time_for_children" : NamespaceProcName(kind));
}
std::uint64_t NamespaceFlag(NamespaceKind kind) { return Facts(kind).flag; }

void Limits::Override(const Limits& other) {
  const auto take = [](auto& mine, const auto& theirs) {
    if (theirs != std::remove_cvref_t<decltype(theirs)>{}) mine = theirs;
  };
  take(memory_bytes, other.memory_bytes);
  take(memory_high_bytes, other.memory_high_bytes);
  take(swap_bytes, other.swap_bytes);
  take(pids, other.pids);
  take(cpus, other.cpus);
  take(cpu_period_us, other.cpu_period_us);
  take(cpu_weight, other.cpu_weight);
  take(io, other.io);
  take(io_weight, other.io_weight);
  take(cpuset_cpus, other.cpuset_cpus);
  take(cpuset_mems, other.cpuset_mems);
}

std::vector<std::string> DefaultEnvironment() {
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp",
          "LANG=C.UTF-8", "TERM=xterm"};
}

absl::Status Validate(const Spec& spec) {
  BROOD_RETURN_IF_ERROR(CheckRoot(spec.root));
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const NamespaceChoice& choice = spec.namespaces[i];
    if (choice.mode != NamespaceMode::kJoin) continue;
    BROOD_RETURN_IF_ERROR(
        CheckPath(fmt::format("the {} namespace to join", kNamespaces[i].name), choice.path));
  }
  for (const Bind& bind : spec.binds) {
    BROOD_RETURN_IF_ERROR(CheckPath("a bind's source", bind.source));
    BROOD_RETURN_IF_ERROR(CheckPath("a bind's target", bind.target));
    if (bind.target == "/") {
      return InvalidError("a bind cannot replace the root: use the root directory for {}",
                          bind.source);
    }
  }
  for (const Tmpfs& tmpfs : spec.tmpfs) {
    BROOD_RETURN_IF_ERROR(CheckPath("a tmpfs target", tmpfs.target));
    if (tmpfs.target == "/") return InvalidError("a tmpfs cannot replace the root");
    BROOD_RETURN_IF_ERROR(CheckSize(fmt::format("the tmpfs on {}", tmpfs.target), tmpfs.bytes));
  }
  BROOD_RETURN_IF_ERROR(CheckSize("the size of /tmp", spec.tmp_bytes));

  if (!spec.is_new(NamespaceKind::kMount) &&
      (spec.root.mode != RootMode::kHostReadOnly || !spec.binds.empty() || !spec.tmpfs.empty())) {
    return InvalidError(
        "a root directory, binds and tmpfs mounts need a mount namespace of the worker's "
        "own");
  }
  if (spec.time_offsets.any() && !spec.is_new(NamespaceKind::kTime)) {
    return InvalidError("clock offsets need a new time namespace");
  }

  if (spec.init && !spec.is_new(NamespaceKind::kPid)) {
    return InvalidError(
        "an init needs a new pid namespace, of which it is the first process: leave out --no-pid "
        "and --join-pid");
  }

  BROOD_RETURN_IF_ERROR(CheckText("the hostname", spec.hostname));
  if (spec.hostname.size() > 64) {
    return InvalidError("the hostname has {} bytes; the kernel takes 64", spec.hostname.size());
  }
  // (uid_t)-1 means "leave it" to setresuid, so it can never be somebody.
  if (spec.uid == UINT32_MAX || spec.gid == UINT32_MAX) {
    return InvalidError("4294967295 is not an id: the kernel reads it as \"unchanged\"");
  }
  if (const auto mask = CapabilityMask(spec.capabilities); !mask.ok()) return mask.status();
  if (spec.seccomp.mode == SeccompMode::kFile) {
    BROOD_RETURN_IF_ERROR(CheckPath("the seccomp profile", spec.seccomp.file));
  }
  for (const Rlimit& limit : spec.rlimits) {
    if (limit.soft > limit.hard) {
      return InvalidError("rlimit {}: the soft limit {} is above the hard limit {}", limit.resource,
                          limit.soft, limit.hard);
    }
  }
  if (spec.limits.any() && !spec.use_cgroup) {
    return InvalidError("memory, pids, cpu and io limits need a cgroup of the worker's own");
  }
  return CheckLimits(spec.limits);
}

absl::Status Validate(const Command& command) {
  if (command.argv.empty() || command.argv.front().empty()) {
    return InvalidError("no command was given");
  }
  // execve(2): one string may have 128 KiB (MAX_ARG_STRLEN), all of them a quarter of the stack
  // limit; refused here so that the sentence can say which.
  constexpr std::size_t kMaxString = std::size_t{128} * 1024;
  constexpr std::size_t kMaxTotal = std::size_t{1536} * 1024;
  std::size_t total = 0;
  const auto check = [&](std::string_view what, const std::vector<std::string>& strings) {
    for (std::size_t i = 0; i < strings.size(); ++i) {
      BROOD_RETURN_IF_ERROR(CheckText(fmt::format("{} {}", what, i), strings[i]));
      if (strings[i].size() >= kMaxString) {
        return InvalidError("{} {} has {} bytes; the kernel takes at most {} in one string", what,
                            i, strings[i].size(), kMaxString - 1);
      }
      total += strings[i].size() + 1 + sizeof(char*);
    }
    return absl::OkStatus();
  };
  BROOD_RETURN_IF_ERROR(check("argument", command.argv));
  BROOD_RETURN_IF_ERROR(check("environment entry", command.env));
  if (total > kMaxTotal) {
    return InvalidError("arguments and environment together have {} bytes; at most {} fit", total,
                        kMaxTotal);
  }
  for (const std::string& entry : command.env) {
    if (const std::size_t equals = entry.find('='); equals == std::string::npos || equals == 0) {
      return InvalidError("an environment entry must be NAME=value, not \"{}\"",
                          std::string_view(entry).substr(0, 60));
    }
  }
  BROOD_RETURN_IF_ERROR(CheckPath("the working directory", command.cwd));
  if (command.timeout && command.timeout->count() <= 0) {
    return InvalidError("a timeout must be longer than zero");
  }
  const bool endpoint = command.stdio.mode == StdioMode::kEndpoint;
  if (endpoint && (command.stdio.port == 0) == (command.stdio.sockets == 0)) {
    return InvalidError("an endpoint needs either a port or a number of sockets");
  }
  if (endpoint && command.stdio.sockets > kMaxEndpointSockets) {
    return InvalidError("an endpoint has {} sockets at most, not {}", kMaxEndpointSockets,
                        command.stdio.sockets);
  }
  if ((endpoint || command.stdio.mode == StdioMode::kFds) &&
      std::any_of(command.stdio.fds.begin(), command.stdio.fds.end(),
                  [](int fd) { return fd < 0; })) {
    return InvalidError("three open descriptors are needed for stdin, stdout and stderr");
  }
  return absl::OkStatus();
}

}  // namespace brood
