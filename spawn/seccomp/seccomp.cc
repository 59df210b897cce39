// SPDX-License-Identifier: Apache-2.0

#include "spawn/seccomp/seccomp.h"

#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/seccomp/seccomp_compat.h"
#include "spawn/seccomp/seccomp_frame.h"
#include "spawn/seccomp/seccomp_profile.h"

namespace brood {
namespace {

using Node = SeccompAssembler::Node;

// Names that the machine does not have are skipped.
constexpr std::string_view kAllowed[] = {
    // Files and directories.
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod",
    "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "flock", "fstat",
    "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd", "getdents", "getdents64", "lchown",
    "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at",
    "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "rename",
    "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statx", "symlink",
    "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink",
    "unlinkat", "utime", "utimensat", "utimes", "vmsplice", "write", "writev", "cachestat",
    "listmount", "statmount",
    // Extended attributes.
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr",
    "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr",
    "removexattrat", "setxattr", "setxattrat",
    // Waiting for files.
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents",
    "io_pgetevents", "io_setup", "io_submit", "pipe", "pipe2", "poll", "ppoll", "pselect6",
    "select", "signalfd", "signalfd4",
    // Sockets; socket itself is below.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    "socketpair",
    // Memory.
    "brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock",
    "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    // Processes and threads; clone is below. A tracer sees only what its own filter let through
    // since Linux 4.8, and brood needs a newer kernel than that.
    "execve", "execveat", "exit", "exit_group", "fork", "get_robust_list", "get_thread_area",
    "getcpu", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrusage", "getsid",
    "gettid", "ioprio_get", "ioprio_set", "kill", "pause", "pidfd_open", "pidfd_send_signal",
    "prctl", "process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace", "rseq",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list",
    "set_thread_area", "set_tid_address", "setpgid", "setpriority", "setsid", "tgkill", "tkill",
    "uretprobe", "vfork", "wait4", "waitid",
    // Signals, futexes, System V and POSIX message passing.
    "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "mq_getsetattr",
    "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget",
    "msgrcv", "msgsnd", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
    "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget", "sigaltstack",
    // Time. The two that adjust clocks also read them; the kernel asks for CAP_SYS_TIME.
    "adjtimex", "alarm", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep",
    "getitimer", "gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
    "timerfd_settime", "times",
    // Identity, limits, restraint of oneself.
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid",
    "getrlimit", "getuid", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self",
    "prlimit64", "seccomp", "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid",
    "setresuid", "setreuid", "setrlimit", "setuid",
    // The machine.
    "arch_prctl", "getrandom", "modify_ldt", "riscv_flush_icache", "riscv_hwprobe", "sysinfo",
    "uname"};

// What 32-bit programs have in place of those, or beside them. ipc(2) leads to the System V calls
// above and nowhere else; socketcall is below.
constexpr std::string_view kAllowedCompat[] = {"_llseek",
                                               "_newselect",
                                               "arm_fadvise64_64",
                                               "arm_sync_file_range",
                                               "cacheflush",
                                               "chown32",
                                               "clock_adjtime64",
                                               "clock_getres_time64",
                                               "clock_gettime64",
                                               "clock_nanosleep_time64",
                                               "fadvise64_64",
                                               "fchown32",
                                               "fcntl64",
                                               "fstat64",
                                               "fstatat64",
                                               "fstatfs64",
                                               "ftruncate64",
                                               "futex_time64",
                                               "get_tls",
                                               "getegid32",
                                               "geteuid32",
                                               "getgid32",
                                               "getgroups32",
                                               "getresgid32",
                                               "getresuid32",
                                               "getuid32",
                                               "io_pgetevents_time64",
                                               "ipc",
                                               "lchown32",
                                               "lstat64",
                                               "mmap2",
                                               "mq_timedreceive_time64",
                                               "mq_timedsend_time64",
                                               "nice",
                                               "ppoll_time64",
                                               "pselect6_time64",
                                               "readdir",
                                               "recv",
                                               "recvmmsg_time64",
                                               "rt_sigtimedwait_time64",
                                               "sched_rr_get_interval_time64",
                                               "semtimedop_time64",
                                               "send",
                                               "sendfile64",
                                               "set_tls",
                                               "setfsgid32",
                                               "setfsuid32",
                                               "setgid32",
                                               "setgroups32",
                                               "setregid32",
                                               "setresgid32",
                                               "setresuid32",
                                               "setreuid32",
                                               "setuid32",
                                               "sigaction",
                                               "signal",
                                               "sigpending",
                                               "sigprocmask",
                                               "sigreturn",
                                               "sigsuspend",
                                               "stat64",
                                               "statfs64",
                                               "sync_file_range2",
                                               "timer_gettime64",
                                               "timer_settime64",
                                               "timerfd_gettime64",
                                               "timerfd_settime64",
                                               "truncate64",
                                               "ugetrlimit",
                                               "utimensat_time64",
                                               "waitpid"};

// i386 numbers that lead to nothing in any kernel that runs brood (ENOSYS), or to older forms of
// what is allowed. Allowed as well, so that the search has fewer ranges to tell apart.
constexpr std::string_view kIdleCompat[] = {
    "afs_syscall", "bdflush",      "break",    "create_module", "ftime", "get_kernel_syms",
    "getpmsg",     "gtty",         "idle",     "lock",          "mpx",   "oldfstat",
    "oldlstat",    "oldolduname",  "oldstat",  "olduname",      "prof",  "profil",
    "putpmsg",     "query_module", "sgetmask", "ssetmask",      "stty",  "ulimit",
    "vserver"};

// What a capability unlocks. The kernel checks the capability itself as well.
constexpr std::string_view kAdminCalls[] = {"bpf",
                                            "clone",
                                            "clone3",
                                            "fanotify_init",
                                            "fsconfig",
                                            "fsmount",
                                            "fsopen",
                                            "fspick",
                                            "lookup_dcookie",
                                            "lsm_get_self_attr",
                                            "lsm_list_modules",
                                            "lsm_set_self_attr",
                                            "mount",
                                            "mount_setattr",
                                            "move_mount",
                                            "open_tree",
                                            "perf_event_open",
                                            "quotactl",
                                            "quotactl_fd",
                                            "setdomainname",
                                            "sethostname",
                                            "setns",
                                            "syslog",
                                            "umount",
                                            "umount2",
                                            "unshare"};
// Of those, and beside them, what a sandbox needs. The kernel asks for the capability in the user
// namespace that it has made.
constexpr std::string_view kNestingCalls[] = {
    "chroot",        "clone",       "clone3",        "fsconfig",   "fsmount",   "fsopen",
    "fspick",        "mount",       "mount_setattr", "move_mount", "open_tree", "pivot_root",
    "setdomainname", "sethostname", "setns",         "umount",     "umount2",   "unshare"};
constexpr std::string_view kBootCalls[] = {"reboot"};
constexpr std::string_view kBpfCalls[] = {"bpf"};
constexpr std::string_view kChrootCalls[] = {"chroot"};
constexpr std::string_view kHandleCalls[] = {"open_by_handle_at"};
constexpr std::string_view kLogCalls[] = {"syslog"};
constexpr std::string_view kModuleCalls[] = {"delete_module", "finit_module", "init_module"};
constexpr std::string_view kNiceCalls[] = {"get_mempolicy", "mbind", "set_mempolicy",
                                           "set_mempolicy_home_node"};
constexpr std::string_view kPacctCalls[] = {"acct"};
constexpr std::string_view kPerfCalls[] = {"perf_event_open"};
constexpr std::string_view kPortCalls[] = {"ioperm", "iopl"};
constexpr std::string_view kPtraceCalls[] = {"kcmp", "pidfd_getfd", "process_madvise"};
constexpr std::string_view kTimeCalls[] = {"clock_settime", "clock_settime64", "settimeofday",
                                           "stime"};
constexpr std::string_view kTtyCalls[] = {"vhangup"};

struct Unlocked {
  int capability;
  std::span<const std::string_view> calls;
};

constexpr Unlocked kUnlocked[] = {
    {CAP_DAC_READ_SEARCH, kHandleCalls}, {CAP_SYS_MODULE, kModuleCalls},
    {CAP_SYS_RAWIO, kPortCalls},         {CAP_SYS_CHROOT, kChrootCalls},
    {CAP_SYS_PTRACE, kPtraceCalls},      {CAP_SYS_PACCT, kPacctCalls},
    {CAP_SYS_ADMIN, kAdminCalls},        {CAP_SYS_BOOT, kBootCalls},
    {CAP_SYS_NICE, kNiceCalls},          {CAP_SYS_TIME, kTimeCalls},
    {CAP_SYS_TTY_CONFIG, kTtyCalls},     {CAP_SYSLOG, kLogCalls},
    {CAP_PERFMON, kPerfCalls},           {CAP_BPF, kBpfCalls}};

// CLONE_NEWTIME is not among them: clone reads that bit as part of the exit signal.
constexpr std::uint32_t kNamespaceFlags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
                                          CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
                                          CLONE_NEWCGROUP;

constexpr std::uint32_t kUname26 = UNAME26;
constexpr std::uint32_t kPersonalities[] = {PER_LINUX, PER_LINUX32, kUname26,
                                            PER_LINUX32 | kUname26, 0xffffffff /* asks only */};

// `argument` is one of `values`: `if_listed`, else `otherwise`.
Node Listed(SeccompAssembler& assembler, std::uint32_t argument,
            std::span<const std::uint32_t> values, Node if_listed, Node otherwise) {
  Node node = otherwise;
  for (const std::uint32_t value : values) node = assembler.Branch(BPF_JEQ, value, if_listed, node);
  return assembler.Load(LowWordOfArgument(argument), node);
}

using Numbering = std::optional<std::uint32_t> (*)(std::string_view name);

// The same rules for each architecture: a name that it does not have is skipped.
SeccompDecisions DecideDefault(SeccompAssembler& assembler, Numbering number_of, bool compat,
                               std::uint64_t capability_mask, bool nesting) {
  const Node allow = assembler.Return(SECCOMP_RET_ALLOW);
  const Node deny = assembler.Return(SeccompErrno(EPERM));
  const Node unknown = assembler.Return(SeccompErrno(ENOSYS));

  std::vector<Node> decisions;
  const auto decide = [&](std::string_view name, Node decision) {
    const auto number = number_of(name);
    if (!number) return;
    if (*number >= decisions.size()) decisions.resize(*number + 1, deny);
    decisions[*number] = decision;
  };

  for (const std::string_view name : kAllowed) decide(name, allow);

  decide("clone", assembler.Load(LowWordOfArgument(0),
                                 assembler.Branch(BPF_JSET, kNamespaceFlags, deny, allow)));
  decide("clone3", unknown);
  constexpr std::uint32_t kRefusedFamilies[] = {AF_ALG, AF_VSOCK};
  decide("socket", Listed(assembler, 0, kRefusedFamilies, deny, allow));
  // Both let a process type into the terminal it shares with its launcher.
  constexpr std::uint32_t kRefusedRequests[] = {TIOCSTI, TIOCLINUX};
  decide("ioctl", Listed(assembler, 1, kRefusedRequests, deny, allow));
  decide("personality", Listed(assembler, 0, kPersonalities, allow, deny));
  if (compat) {
    for (const std::string_view name : kAllowedCompat) decide(name, allow);
    for (const std::string_view name : kIdleCompat) decide(name, allow);
    // The family of the socket that it makes lies in memory, where no filter looks. All else it
    // does is done to sockets that were let through.
    constexpr std::uint32_t kRefusedSubcalls[] = {/*SYS_SOCKET*/ 1};
    decide("socketcall", Listed(assembler, 0, kRefusedSubcalls, unknown, allow));
  }

  for (const auto& [capability, calls] : kUnlocked) {
    if (!HasCapability(capability_mask, capability)) continue;
    for (const std::string_view name : calls) decide(name, allow);
  }
  if (nesting) {
    for (const std::string_view name : kNestingCalls) decide(name, allow);
  }
  return {std::move(decisions), unknown};
}

// Made by hand rather than by libseccomp, which compares 64-bit words only: a rule "socket, family
// not AF_ALG" would then let the family 2^32 + AF_ALG through, and the kernel reads that as AF_ALG.
absl::StatusOr<SeccompProgram> CompileDefault(std::uint64_t capability_mask, bool nesting) {
  SeccompAssembler assembler;
  const SeccompDecisions native =
      DecideDefault(assembler, CallNumber, /*compat=*/false, capability_mask, nesting);
  std::optional<SeccompDecisions> compat;
  if (kCompat) {
    compat = DecideDefault(assembler, CompatCallNumber, /*compat=*/true, capability_mask, nesting);
  }
  return FrameSeccomp(assembler, native, compat, "the default seccomp filter");
}

}  // namespace

absl::StatusOr<SeccompProgram> CompileInheritedSeccomp(std::uint64_t key) {
  SeccompAssembler assembler;
  SeccompDecisions native =
      DecideDefault(assembler, CallNumber, /*compat=*/false, /*capability_mask=*/0, false);
  const Node allow = assembler.Return(SECCOMP_RET_ALLOW);
  for (const std::string_view name : kNestingCalls) {
    const auto number = CallNumber(name);
    if (!number) continue;
    if (*number >= native.by_number.size()) native.by_number.resize(*number + 1, native.beyond);
    Node& decision = native.by_number[*number];
    // clone asks for its flags whoever calls it.
    if (name != "clone") decision = assembler.Matches(kSetupKeyArgument, key, allow, decision);
  }
  // No set-up is done by a 32-bit program.
  std::optional<SeccompDecisions> compat;
  if (kCompat) compat = DecideDefault(assembler, CompatCallNumber, /*compat=*/true, 0, false);
  return FrameSeccomp(assembler, native, compat, "the default seccomp filter");
}

absl::StatusOr<SeccompProgram> CompileSeccomp(const SeccompChoice& choice,
                                              std::uint64_t capability_mask, bool nesting) {
  switch (choice.mode) {
    case SeccompMode::kDefault:
      return CompileDefault(capability_mask, nesting);
    case SeccompMode::kFile:
      return CompileSeccompProfile(choice.file, capability_mask);
    case SeccompMode::kOff:
      break;
  }
  return SeccompProgram{};
}

}  // namespace brood
