// SPDX-License-Identifier: Apache-2.0

#include "spawn/limits/advice.h"

#include <fmt/format.h>
#include <linux/capability.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>

#include "spawn/base/kernel.h"
#include "spawn/host/machine.h"
#include "spawn/host/switches.h"
#include "spawn/limits/limits.h"

namespace brood {
namespace {

struct StepFacts {
  Step step;
  std::string_view name;
  std::string_view action;
};

constexpr std::string_view kSlotFaultNames[kSlotFaults] = {"none",      "sockets",  "time_wait",
                                                           "fragments", "unsealed", "unknown"};

constexpr StepFacts kSteps[] = {
    {Step::kNone, "none", "nothing"},
    {Step::kMapMemory, "map_memory", "mapping a zygote's memory"},
    {Step::kCloneWorker, "clone_worker", "cloning the worker into its namespaces"},
    {Step::kOpenLeaf, "open_leaf", "opening the worker's cgroup"},
    {Step::kHandOver, "hand_over", "handing the worker over to its launcher"},
    {Step::kBegin, "begin", "letting the worker begin"},
    {Step::kMapIds, "map_ids", "mapping ids into the worker's user namespace"},
    {Step::kIdmapTree, "idmap_tree", "mapping the owners of the root's files"},
    {Step::kCopyTree, "copy_tree", "copying the template's mount tree"},
    {Step::kJoinNamespace, "join_namespace", "joining a namespace"},
    {Step::kUnshare, "unshare", "making a namespace"},
    {Step::kTimeOffsets, "time_offsets", "setting the clock offsets of the time namespace"},
    {Step::kPrivatePropagation, "private_propagation", "making the mount tree private"},
    {Step::kAttachTree, "attach_tree", "attaching a mount tree"},
    {Step::kBindPath, "bind_path", "copying a mount"},
    {Step::kTreeAttributes, "tree_attributes", "restricting a mount tree"},
    {Step::kMountProc, "mount_proc", "mounting /proc"},
    {Step::kMountSys, "mount_sys", "mounting /sys"},
    {Step::kMountCgroup, "mount_cgroup", "mounting /sys/fs/cgroup"},
    {Step::kMountTmpfs, "mount_tmpfs", "mounting a tmpfs"},
    {Step::kMountDevpts, "mount_devpts", "mounting devpts"},
    {Step::kMountOverlay, "mount_overlay", "mounting the overlay"},
    {Step::kMaskPath, "mask_path", "hiding a sensitive path"},
    {Step::kGo, "go", "going to a directory"},
    {Step::kMakeDirectory, "make_directory", "making a directory"},
    {Step::kMakeFile, "make_file", "making a file"},
    {Step::kMakeSymlink, "make_symlink", "making a symbolic link"},
    {Step::kRemount, "remount", "changing the flags of a mount"},
    {Step::kEnterRoot, "enter_root", "entering the new root"},
    {Step::kHostname, "hostname", "setting the hostname"},
    {Step::kLoopback, "loopback", "bringing up the loopback interface"},
    {Step::kNetDefaults, "net_defaults", "opening low ports and ping in the network namespace"},
    {Step::kNewSession, "new_session", "starting a session"},
    {Step::kNewKeyring, "new_keyring", "joining a new session keyring"},
    {Step::kSetIds, "set_ids", "taking on the worker's user and group"},
    {Step::kParentDeath, "parent_death", "tying the worker's life to its launcher's"},
    {Step::kCapabilities, "capabilities", "dropping capabilities"},
    {Step::kNoNewPrivs, "no_new_privs", "setting no_new_privs"},
    {Step::kRlimit, "rlimit", "setting a resource limit"},
    {Step::kSeccomp, "seccomp", "installing the seccomp filter"},
    {Step::kReceiveFds, "receive_fds", "receiving the command's descriptors"},
    {Step::kTerminal, "terminal", "opening the worker's terminal"},
    {Step::kEndpoint, "endpoint", "opening sockets in the worker's own network"},
    {Step::kStdio, "stdio", "placing stdin, stdout and stderr"},
    {Step::kCloseFds, "close_fds", "closing the launcher's descriptors"},
    {Step::kWorkingDirectory, "working_directory", "changing to the working directory"},
    {Step::kInit, "init", "starting an init for the command"},
    {Step::kReopen, "reopen", "reopening a file that the function had open"},
    {Step::kExec, "exec", "executing"},
};
static_assert(std::size(kSteps) == static_cast<std::size_t>(Step::kCount));

constexpr bool InOrder() {
  for (std::size_t i = 0; i < std::size(kSteps); ++i) {
    if (kSteps[i].step != static_cast<Step>(i)) return false;
  }
  return true;
}
static_assert(InOrder(), "kSteps is indexed by Step");

const StepFacts& Facts(Step step) {
  const auto index = static_cast<std::size_t>(step);
  return kSteps[index < std::size(kSteps) ? index : 0];
}

struct AdviceRow {
  Step step;
  int error;
  std::string_view text;
};

constexpr AdviceRow kAdvice[] = {
    {Step::kMapMemory, ENOMEM,
     "the address space of a process is limited: raise `ulimit -v`, or let the template have fewer "
     "workers (--max-workers)"},
    {Step::kCloneWorker, ENOSPC,
     "a namespace count is used up, or user and pid namespaces are nested 32 deep: compare "
     "`sysctl user` (user.max_*_namespaces) with `lsns`"},
    {Step::kCloneWorker, EUSERS,
     "user namespaces are nested too deep, or user.max_user_namespaces is used up"},
    {Step::kCloneWorker, EPERM,
     "this user may not make these namespaces: run as root; in a container, a filter round this "
     "process refuses them (in Docker, --security-opt seccomp=unconfined)"},
    {Step::kCloneWorker, EAGAIN,
     "no process can be added: look at kernel.pid_max, kernel.threads-max, `ulimit -u` and "
     "pids.max "
     "of the cgroup and its parents"},
    {Step::kCloneWorker, ENOMEM,
     "the kernel has no memory for it, or the pid namespace to be entered has lost its init"},
    {Step::kCloneWorker, EBUSY,
     "the cgroup hands controllers to children, so no process may be in it"},
    {Step::kCloneWorker, ENOENT,
     "cgroup2 is mounted with nsdelegate, and the leaf is not in the cgroup namespace to be "
     "entered: keep the user namespace (--no-user), or the cgroup namespace (--no-cgroup)"},
    {Step::kCloneWorker, EOPNOTSUPP,
     "the cgroup's type is \"domain invalid\": it lies beside threaded ones, and no process can be "
     "in it"},
    {Step::kCloneWorker, EINVAL,
     "this kernel lacks one of these namespaces or CLONE_INTO_CGROUP (Linux 5.7)"},
    {Step::kCloneWorker, ENOSYS,
     "clone3 is missing (before Linux 5.3), or a filter round this process refuses it, as Docker's "
     "does: --security-opt seccomp=unconfined"},
    {Step::kUnshare, ENOSPC,
     "a namespace count is used up: compare `sysctl user` (user.max_*_namespaces) with `lsns`"},
    {Step::kOpenLeaf, ENOENT, "the cgroup was removed while brood used it"},
    {Step::kOpenLeaf, ENODEV, "the cgroup was removed while brood used it"},
    {Step::kCloneWorker, ENODEV, "the cgroup was removed while brood used it"},
    {Step::kBegin, EBUSY,
     "its cgroup is frozen, and nothing in it runs: thaw it, or the one above it that was frozen "
     "(echo 0 > .../cgroup.freeze, systemctl thaw)"},
    {Step::kMapIds, EPERM,
     "the launcher may map only ids of its own user namespace: run as root of the machine, or "
     "without a user namespace (--no-user)"},
    {Step::kIdmapTree, EINVAL,
     "its filesystem cannot be idmapped (Linux 5.12; tmpfs 6.3, overlayfs never)"},
    {Step::kMountProc, EPERM,
     "/proc is partly hidden here (a container inside a container), and the kernel then refuses a "
     "new one: unmask /proc outside (in Docker, --security-opt systempaths=unconfined; in "
     "Kubernetes, procMount: Unmasked), or keep the pid namespace (--no-pid)"},
    {Step::kJoinNamespace, EPERM,
     "entering namespaces needs privilege over them: root has it, and the user who made them"},
    {Step::kBindPath, EINVAL, "it was unmounted or replaced while brood looked"},
    {Step::kBindPath, ENOENT, "it was removed after brood had checked it"},
    {Step::kAttachTree, ENOENT, "the mount point does not exist inside the root: make it first"},
    {Step::kAttachTree, ENOTDIR,
     "a directory can be mounted on a directory only, a file on a file"},
    {Step::kAttachTree, ELOOP,
     "a directory became a link after brood had checked it: the root is being changed"},
    {Step::kMountTmpfs, ELOOP,
     "a directory became a link after brood had checked it: the root is being changed"},
    {Step::kAttachTree, ENOSPC, "the mount count is used up: sysctl fs.mount-max"},
    {Step::kCopyTree, ENOSPC,
     "the count of mounts is used up, or that of mount namespaces, of which each copy is one: "
     "sysctl fs.mount-max, user.max_mnt_namespaces"},
    {Step::kMountTmpfs, ENOENT, "the mount point does not exist inside the root: make it first"},
    {Step::kMountTmpfs, ENOSPC, "the mount count is used up: sysctl fs.mount-max"},
    {Step::kMountOverlay, EINVAL,
     "the lower directory's filesystem cannot serve below an overlay in a user namespace (Linux "
     "5.11; over an idmapped lower 5.19)"},
    {Step::kMountOverlay, ENODEV, "this kernel has no overlayfs: modprobe overlay"},
    {Step::kEnterRoot, ENOENT, "the root directory was removed"},
    {Step::kSetIds, EINVAL, "the id is not mapped into the worker's user namespace"},
    {Step::kSetIds, EAGAIN, "that user has reached RLIMIT_NPROC"},
    {Step::kParentDeath, ECANCELED, "the launcher died meanwhile"},
    {Step::kRlimit, EPERM,
     "a hard limit can be raised only with CAP_SYS_RESOURCE in the machine's own user namespace: "
     "ask "
     "for no more than brood itself has (ulimit -H), or give it more"},
    {Step::kSeccomp, EINVAL, "the kernel refused the program: it may exceed 4096 instructions"},
    {Step::kSeccomp, 524,
     "the memory for compiled filters is used up: sysctl -w net.core.bpf_jit_limit=N, in bytes"},
    {Step::kSeccomp, ENOMEM, "the filters of all ancestors together exceed 32768 instructions"},
    {Step::kEndpoint, EPERM,
     "its seccomp filter keeps it from that: allow socket, bind, listen, sendmsg and openat"},
    {Step::kEndpoint, EADDRINUSE,
     "the port is taken: the worker needs a network namespace of its own"},
    {Step::kEndpoint, EADDRNOTAVAIL, "its network namespace has no loopback interface that is up"},
    {Step::kWorkingDirectory, ENOENT, "the directory does not exist inside the root"},
    {Step::kWorkingDirectory, ELOOP,
     "too many symbolic links, or a link of /proc, which could lead out of the isolate"},
    {Step::kWorkingDirectory, EACCES, "the worker's user may not enter it"},
    {Step::kExec, ENOENT,
     "no such file inside the root; for a script look at its #! line, for a dynamic program at its "
     "loader"},
    {Step::kExec, EACCES,
     "it is not executable for the worker's user, or lies on a mount without exec"},
    {Step::kExec, ENOEXEC, "it is neither a program for this machine nor a script with a #! line"},
    {Step::kExec, E2BIG, "arguments and environment are too long for the kernel"},
    {Step::kExec, ENOMEM, "no memory to load it: is the memory limit too small?"},
    {Step::kExec, ELOOP,
     "too many symbolic links, interpreters of interpreters, or a link of /proc, which could lead "
     "out "
     "of the isolate"},
    {Step::kExec, ETXTBSY, "a process has it open for writing"},
};

// What advice for ordinary users cannot tell user 0, whose powers somebody has taken away.
struct RootRow {
  Step step;
  int error;
  int capability;
  std::string_view name;
  std::string_view text;
};

constexpr RootRow kRootAdvice[] = {
    {Step::kCloneWorker, EPERM, CAP_SYS_ADMIN, "CAP_SYS_ADMIN",
     "making namespaces needs it, or a new user namespace with them (leave out --no-user); in a "
     "container, a filter may refuse both (in Docker, --cap-add SYS_ADMIN or --security-opt "
     "seccomp=unconfined)"},
    {Step::kMapIds, EPERM, CAP_SETFCAP, "CAP_SETFCAP",
     "since Linux 5.12 user 0 needs it to make a user namespace that maps user 0. Give it the "
     "capability (--cap-add SETFCAP, in brood as in Docker), or, inside an isolate, start that "
     "isolate without --no-user"},
    {Step::kJoinNamespace, EPERM, CAP_SYS_ADMIN, "CAP_SYS_ADMIN",
     "entering a namespace needs it in the user namespace that owns it"},
};

// Empty when that is not what lacks.
std::string RootAdvice(Step step, int error) {
  const Machine& machine = ThisMachine();
  if (machine.uid != 0) return {};
  for (const RootRow& row : kRootAdvice) {
    if (row.step != step || row.error != error) continue;
    if ((machine.capabilities >> row.capability & 1) != 0) continue;
    return fmt::format("this process is user 0, but without {}: {}", row.name, row.text);
  }
  return {};
}

// What fails first where user namespaces are refused, or where AppArmor lets everybody make one
// that has no power.
bool MayBeASwitch(Step step, int error) {
  switch (step) {
    case Step::kCloneWorker:
      return error == EPERM || error == EACCES || error == ENOSPC || error == EUSERS;
    case Step::kMapIds:
    case Step::kCapabilities:
    case Step::kUnshare:
    case Step::kPrivatePropagation:
    case Step::kBindPath:
    case Step::kHostname:
    case Step::kLoopback:
      return error == EPERM || error == EACCES;
    default:
      return false;
  }
}

std::optional<LimitedCall> CallOf(Step step) {
  switch (step) {
    case Step::kCloneWorker:
      return LimitedCall::kClone;
    case Step::kUnshare:
      return LimitedCall::kUnshare;
    case Step::kCopyTree:
    case Step::kAttachTree:
    case Step::kMountTmpfs:
      return LimitedCall::kMount;
    case Step::kOpenLeaf:
    case Step::kReceiveFds:
      return LimitedCall::kOpen;
    case Step::kNewKeyring:
      return LimitedCall::kAddKey;
    case Step::kSeccomp:
      return LimitedCall::kSeccomp;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string_view SlotFaultName(SlotFault fault) {
  return kSlotFaultNames[static_cast<std::size_t>(fault)];
}

std::string_view StepName(Step step) { return Facts(step).name; }
std::string_view StepAction(Step step) { return Facts(step).action; }

std::string_view Advice(Step step, int error) {
  for (const AdviceRow& row : kAdvice) {
    if (row.step == step && row.error == error) return row.text;
  }
  return {};
}

std::string AdviceHere(Step step, int error) {
  if (MayBeASwitch(step, error) && !(ThisMachine().mount_admin && ThisMachine().initial_user)) {
    if (const std::optional<Switch> off = UserNamespaceSwitch()) return off->Sentence();
  }
  if (const std::optional<LimitedCall> call = CallOf(step)) {
    if (std::string limit =
            FullLimit({.call = *call, .error = error, .namespaces = kernel::kAllNamespaces});
        !limit.empty()) {
      return limit;
    }
  }
  if (step == Step::kCopyTree) {
    // A detached copy counts as a mount namespace, too.
    if (std::string limit = FullLimit(
            {.call = LimitedCall::kUnshare, .error = error, .namespaces = kernel::kCloneNewNs});
        !limit.empty()) {
      return limit;
    }
  }
  if (std::string lacks = RootAdvice(step, error); !lacks.empty()) return lacks;
  return std::string(Advice(step, error));
}

}  // namespace brood
