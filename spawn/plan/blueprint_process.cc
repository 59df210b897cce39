// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "spawn/base/capabilities.h"
#include "spawn/base/id_maps.h"
#include "spawn/base/sealed_memory.h"
#include "spawn/base/status.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/without.h"
#include "spawn/plan/blueprint_maker.h"
#include "spawn/seccomp/seccomp.h"
#include "spawn/seccomp/seccomp_eval.h"

extern "C" const char brood_init_image[];
extern "C" const char brood_init_image_end[];

namespace brood {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kNativeArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kNativeArchitecture = AUDIT_ARCH_AARCH64;
#endif

}  // namespace

absl::Status BlueprintMaker::CheckIds() const {
  if (range_ && (spec_.uid >= kIdsPerRange || spec_.gid >= kIdsPerRange)) {
    return InvalidError("ids inside go from 0 to {}: {}:{} does not fit", kIdsPerRange - 1,
                        spec_.uid, spec_.gid);
  }
  if (!new_user_ && !machine_.id_ranges &&
      (spec_.uid != machine_.uid || spec_.gid != machine_.gid) &&
      spec_.ns(NamespaceKind::kUser).mode == NamespaceMode::kHost) {
    return Error(absl::StatusCode::kPermissionDenied,
                 "without a user namespace, CAP_SETUID and CAP_SETGID the ids can only stay {}:{}",
                 machine_.uid, machine_.gid);
  }
  return absl::OkStatus();
}

// By the worker itself: whoever makes a user namespace may map its own ids in it, one of each.
void BlueprintMaker::MapOwnIds() {
  for (const IdMapFile& file : MapOneId(spec_.uid, spec_.uid, spec_.gid, spec_.gid)) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kWriteFile, Step::kMapIds,
                 {fmt::format("/proc/self/{}", file.name), file.text});
  }
}

absl::Status BlueprintMaker::AddJoins() {
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    const NamespaceChoice& choice = spec_.namespaces[i];
    if (choice.mode != NamespaceMode::kJoin) continue;
    UniqueFd fd(open(choice.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) {
      return ErrnoError(errno, "opening the {} namespace {} to join", NamespaceName(kind),
                        choice.path);
    }
    constexpr unsigned long kNsGetNstype = 0xb703;  // NS_GET_NSTYPE, 4.11
    const int type = static_cast<int>(syscall(SYS_ioctl, fd.get(), kNsGetNstype, 0));
    if (type != static_cast<int>(NamespaceFlag(kind))) {
      return InvalidError("{} is not a {} namespace", choice.path, NamespaceName(kind));
    }
    const auto index = static_cast<std::uint16_t>(out_.namespace_fds_.size());
    out_.namespace_fds_.push_back(std::move(fd));
    const bool alone = kind == NamespaceKind::kMount || kind == NamespaceKind::kTime;
    // Where cgroup2 is mounted with nsdelegate, as systemd does, nobody is born into a cgroup that
    // the cloning process does not see in its cgroup namespace (ENOENT): the worker enters it.
    const bool later = kind == NamespaceKind::kCgroup && !new_user_;
    if (kind == NamespaceKind::kUser && enters_user_) {
      // Before all others, which belong to it.
      out_.launcher_joins_.insert(out_.launcher_joins_.begin(),
                                  {kind, out_.namespace_fds_.back().get()});
    } else if (kind == NamespaceKind::kUser) {
      join_user_index_ = index;
    } else if (kind_ == PlanKind::kTemplate && !later) {
      builder_.Add(PlanBuilder::kTmpl, OpCode::kSetns, Step::kJoinNamespace, {choice.path},
                   NamespaceFlag(kind), 0, index);
    } else if (!alone && !later) {
      // Whoever clones joins it first: a pid namespace counts for children only, and a worker in
      // a user namespace of its own may not enter what belongs to the host.
      out_.launcher_joins_.push_back({kind, out_.namespace_fds_.back().get()});
    } else if (new_user_) {
      return InvalidError(
          "a worker in a user namespace of its own cannot join the {} namespace {}: "
          "keep the user namespace (--no-user)",
          NamespaceName(kind), choice.path);
    } else {
      builder_.Add(PlanBuilder::kWorker, OpCode::kSetns, Step::kJoinNamespace, {choice.path},
                   NamespaceFlag(kind), 0, index);
    }
  }
  return absl::OkStatus();
}

// What a worker changes in its user, network and uts namespaces is there for the next one. Without
// a capability, with the default filter, and with no process but its own in them, all that it can
// leave is sockets, which the kernel counts (spawn/child/slot.cc).
std::string BlueprintMaker::WhyFresh() const {
  if (kind_ != PlanKind::kTemplate) return "the cold path makes them";
  if (spec_.reuse == Reuse::kNone) return "its spec asks for that";
  if (Without(Way::kSlots)) return fmt::format("{} says so", kWithoutVariable);
  if (spec_.nesting) return "it may make namespaces";
  if (kept_capabilities_ != 0) return "it keeps a capability";
  if (spec_.seccomp.mode != SeccompMode::kDefault) return "its filter is not the default";
  for (const NamespaceKind kind :
       {NamespaceKind::kUser, NamespaceKind::kPid, NamespaceKind::kMount, NamespaceKind::kIpc}) {
    if (!spec_.is_new(kind))
      return fmt::format("it has no {} namespace of its own", NamespaceName(kind));
  }
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    if (spec_.namespaces[i].mode != NamespaceMode::kJoin) continue;
    return fmt::format("it joins a {} namespace", NamespaceName(static_cast<NamespaceKind>(i)));
  }
  return {};
}

// What a worker does before its ids are mapped (Plan::early_ops): nothing here makes a file.
void BlueprintMaker::AddEarly() {
  constexpr List kWorker = PlanBuilder::kWorker;
  // The programs that map its ids take their time, and nobody wakes it when the launcher dies
  // meanwhile. Changing its ids undoes this.
  if (range_ && !machine_.id_ranges && kind_ == PlanKind::kCold) {
    builder_.Add(kWorker, OpCode::kParentDeath, Step::kParentDeath);
  }
  UnshareCgroupAndTime();
  if (spec_.is_new(NamespaceKind::kUts) && !spec_.hostname.empty()) {
    builder_.Add(once_, OpCode::kHostname, Step::kHostname, {spec_.hostname},
                 spec_.hostname.size());
  }
  if (spec_.is_new(NamespaceKind::kNet)) {
    builder_.Add(once_, OpCode::kLoopback, Step::kLoopback);
  }
  builder_.Add(kWorker, OpCode::kNewSession, Step::kNewSession);
  // The default filter forbids every call that could reach a keyring.
  if (spec_.seccomp.mode != SeccompMode::kDefault) {
    builder_.Add(kWorker, OpCode::kNewKeyring, Step::kNewKeyring);
  }
  if (new_user_) AddBounding();
  header_.early_ops = static_cast<std::uint32_t>(builder_.size(kWorker));
}

// CLONE_NEWCGROUP at clone would take the cloning process's cgroup for its root, and CLONE_NEWTIME
// is refused with CLONE_VM: both are unshared by the worker. Where exec does not enter the time
// namespace, SetHeader has the worker born into it, or there is an operation to enter it.
void BlueprintMaker::UnshareCgroupAndTime() {
  std::uint64_t flags = 0;
  if (spec_.is_new(NamespaceKind::kCgroup)) flags |= kernel::kCloneNewCgroup;
  if (spec_.is_new(NamespaceKind::kTime)) {
    if (!spec_.time_offsets.any()) {
      if (machine_.exec_enters_time) flags |= kernel::kCloneNewTime;
    } else if (kind_ == PlanKind::kTemplate && (machine_.mount_admin || zygote_user_)) {
      // The offsets file of a process that shares the zygote's memory belongs to the host's
      // root, so the zygote writes it, and its workers inherit the time namespace.
      AddTimeOffsets(PlanBuilder::kTmpl);
    } else {
      own_time_offsets_ = true;
    }
  }
  if (slots_ && (flags & kernel::kCloneNewTime) != 0) {
    flags &= ~kernel::kCloneNewTime;
    builder_.Add(once_, OpCode::kUnshare, Step::kUnshare, {"time"}, kernel::kCloneNewTime);
  }
  if (flags != 0) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kUnshare, Step::kUnshare, {"cgroup, time"}, flags);
  }
}

void BlueprintMaker::AddTimeOffsets(List list) {
  builder_.Add(list, OpCode::kUnshare, Step::kUnshare, {"time"}, kernel::kCloneNewTime);
  const auto line = [](std::string_view clock, std::chrono::nanoseconds offset) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    std::int64_t seconds = offset.count() / kSecond;
    std::int64_t nanoseconds = offset.count() % kSecond;
    if (nanoseconds < 0) {
      nanoseconds += kSecond;
      --seconds;
    }
    return fmt::format("{} {} {}\n", clock, seconds, nanoseconds);
  };
  builder_.Add(list, OpCode::kTimeOffsets, Step::kTimeOffsets,
               {line("monotonic", spec_.time_offsets.monotonic) +
                line("boottime", spec_.time_offsets.boottime)});
  if (!machine_.exec_enters_time) {
    const std::chrono::nanoseconds ahead = spec_.time_offsets.monotonic;
    builder_.Add(list, OpCode::kEnterTime, Step::kTimeOffsets, {"time"},
                 static_cast<std::uint64_t>(ahead.count()));
  }
}

// Written through the worker's own new /proc, tree `proc`, before anything in it is read-only;
// kNoTree: through the launcher's. There each network namespace has an entry "net" of its own in
// one directory, and a look-up compares with all of them. All capabilities must still be there, and
// the groups be mapped.
void BlueprintMaker::AddNetDefaults(std::size_t proc) {
  const auto add = [&](std::string_view name, std::string_view value) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kNetDefaults, Step::kNetDefaults,
                 {fmt::format("sys/net/ipv4/{}", name), value}, proc != kNoTree ? 1 : 0, 0,
                 static_cast<std::uint16_t>(proc));
  };
  add("ip_unprivileged_port_start", "0");
  add("ping_group_range", range_      ? fmt::format("0 {}", kIdsPerRange - 1)
                          : new_user_ ? fmt::format("{0} {0}", spec_.gid)
                                      : "0 2147483647");
}

// Before namespaces may be used again. Nobody inside makes a user namespace, in which it would have
// capabilities. A closed connection, which would wait for a minute, is let go of at once where none
// may wait; where that cannot be had, waiting ones are found.
void BlueprintMaker::AddSeal(std::size_t proc) {
  const auto add = [&](std::string_view name, bool must) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kSeal, Step::kNetDefaults, {name, "0"},
                 proc != kNoTree ? 1 : 0, must ? 1 : 0, static_cast<std::uint16_t>(proc));
  };
  if (spec_.is_new(NamespaceKind::kNet)) add("sys/net/ipv4/tcp_max_tw_buckets", false);
  add("sys/user/max_user_namespaces", true);
}

// In a network namespace of the worker's: by itself, or in namespaces of its making.
bool BlueprintMaker::MayAddInterfaces() const {
  return (kept_capabilities_ >> CAP_NET_ADMIN & 1) != 0 || spec_.nesting ||
         spec_.seccomp.mode != SeccompMode::kDefault;
}

void BlueprintMaker::AddRlimits() {
  for (const Rlimit& limit : spec_.rlimits) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kRlimit, Step::kRlimit, {}, limit.soft, limit.hard,
                 static_cast<std::uint16_t>(limit.resource));
  }
}

void BlueprintMaker::AddIds(List list, std::uint32_t uid, std::uint32_t gid,
                            bool keep_capabilities) {
  const bool clear_groups = range_ || (!new_user_ && machine_.id_ranges) || enters_user_;
  builder_.Add(list, OpCode::kSetIds, Step::kSetIds, {fmt::format("{}:{}", uid, gid)}, uid, gid,
               static_cast<std::uint16_t>((clear_groups ? 1 : 0) | (keep_capabilities ? 2 : 0) |
                                          (enters_user_ ? 4 : 0)));
}

void BlueprintMaker::AddBounding() {
  builder_.Add(once_, OpCode::kBounding, Step::kCapabilities, {"the bounding set"},
               kept_capabilities_, static_cast<std::uint64_t>(LastCapability()));
}

absl::Status BlueprintMaker::AddPrivileges() {
  constexpr List kWorker = PlanBuilder::kWorker;
  if (join_user_index_ >= 0) {
    builder_.Add(kWorker, OpCode::kSetns, Step::kJoinNamespace,
                 {spec_.ns(NamespaceKind::kUser).path}, kernel::kCloneNewUser, 0,
                 static_cast<std::uint16_t>(join_user_index_));
  }
  const std::uint64_t keep = kept_capabilities_;
  const bool has_capabilities =
      new_user_ || machine_.id_ranges || join_user_index_ >= 0 || enters_user_;
  if (has_capabilities) {
    // Joining a user namespace fills the bounding set again.
    if (!new_user_) AddBounding();
    if (!range_ || spec_.uid != 0 || spec_.gid != 0) {
      AddIds(kWorker, spec_.uid, spec_.gid, keep != 0);
    }
    // Until its exec it has the launcher's memory. Whoever is in the pid namespace that it joined,
    // and has the same ids, could trace it as soon as it has no more capabilities than they.
    if (spec_.ns(NamespaceKind::kPid).mode == NamespaceMode::kJoin && !zygote_user_) {
      builder_.Add(kWorker, OpCode::kUndumpable, Step::kCapabilities, {"tracing"});
    }
    builder_.Add(kWorker, OpCode::kCapabilities, Step::kCapabilities, {}, keep);
  } else if (keep != 0) {
    return Error(absl::StatusCode::kPermissionDenied,
                 "without a user namespace and CAP_SYS_ADMIN there are no capabilities to keep");
  }
  builder_.Add(kWorker, OpCode::kParentDeath, Step::kParentDeath);
  builder_.Add(kWorker, OpCode::kNoNewPrivs, Step::kNoNewPrivs);
  return AddSeccomp();
}

// The filter holds for the init, too: a command with its ids may trace it.
absl::Status BlueprintMaker::AddInit() {
  struct NeededCall {
    std::string_view name;
    int number;
    std::uint64_t first_argument = 0;
  };
  constexpr NeededCall kNeeded[] = {
      {"clone", SYS_clone, kernel::kCloneVm | kernel::kCloneVfork | SIGCHLD},
      {"prctl", SYS_prctl, PR_SET_DUMPABLE},
      {"setsid", SYS_setsid},
      {"execveat", SYS_execveat},
      {"wait4", SYS_wait4},
      {"rt_sigtimedwait", SYS_rt_sigtimedwait},
      {"kill", SYS_kill},
      {"exit_group", SYS_exit_group}};
  for (const NeededCall& call : kNeeded) {
    seccomp_data data = {};
    data.nr = call.number;
    data.arch = kNativeArchitecture;
    data.args[0] = call.first_argument;
    if (filter_.empty() || EvaluateSeccomp(filter_, data) == SECCOMP_RET_ALLOW) continue;
    return InvalidError(
        "the seccomp profile {} refuses {}, which an init needs: allow it there, or leave "
        "the init out",
        spec_.seccomp.file, call.name);
  }
  const std::span<const char> program(brood_init_image, brood_init_image_end);
  BROOD_ASSIGN_OR_RETURN(UniqueFd image, SealedMemory("brood-init", program, true));
  header_.init = 1;
  header_.init_fd = static_cast<std::uint8_t>(out_.namespace_fds_.size());
  out_.namespace_fds_.push_back(std::move(image));
  return absl::OkStatus();
}

absl::Status BlueprintMaker::AddSeccomp() {
  SeccompProgram program;
  if (slots_) {
    if (getrandom(&header_.setup_key, sizeof(header_.setup_key), 0) < 0) {
      return ErrnoError(errno, "asking for a random number");
    }
    BROOD_ASSIGN_OR_RETURN(program, CompileInheritedSeccomp(header_.setup_key));
    filter_ = std::move(program.instructions);  // its zygote installs it
    return spec_.init ? AddInit() : absl::OkStatus();
  }
  BROOD_ASSIGN_OR_RETURN(program, CompileSeccomp(spec_.seccomp, kept_capabilities_, spec_.nesting));
  if (program.kills_exec && kind_ != PlanKind::kForked) {
    return InvalidError(
        "seccomp profile {} kills a process that calls execve (SIGSYS), so no command can run "
        "under it: allow execve and exit_group",
        spec_.seccomp.file);
  }
  filter_ = std::move(program.instructions);
  if (spec_.init) BROOD_RETURN_IF_ERROR(AddInit());
  if (filter_.empty()) return absl::OkStatus();
  // There is no exec to put it off to for a clone that goes on as it is.
  const bool late = !program.allows_launch && kind_ != PlanKind::kForked;
  header_.late_seccomp = late ? 1 : 0;
  if (!late) builder_.Add(PlanBuilder::kWorker, OpCode::kSeccomp, Step::kSeccomp);
  return absl::OkStatus();
}

}  // namespace brood
