// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/bare_clone.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "spawn/base/status.h"

namespace brood::bench {
namespace {

std::string_view Doing(BareStep step) {
  switch (step) {
    case BareStep::kNone:
      return "doing nothing";
    case BareStep::kEnter:
      return "entering a namespace (setns)";
    case BareStep::kUnshare:
      return "making a namespace (unshare)";
    case BareStep::kIdMap:
      return "writing /proc/self/uid_map";
    case BareStep::kLoopback:
      return "bringing lo up";
    case BareStep::kPropagation:
      return "making the mount tree private";
    case BareStep::kProc:
      return "mounting /proc";
    case BareStep::kTmpfs:
      return "mounting a tmpfs on /tmp";
    case BareStep::kPivot:
      return "changing its root (pivot_root)";
    case BareStep::kRlimit:
      return "setting a limit (prlimit)";
    case BareStep::kCapability:
      return "dropping a capability";
    case BareStep::kNoNewPrivs:
      return "setting no_new_privs";
    case BareStep::kFilter:
      return "installing a system call filter";
    case BareStep::kHold:
      return "waiting for an end of file";
    case BareStep::kExec:
      return "executing the payload";
  }
  return "doing something unknown";
}

}  // namespace

absl::Status CheckExit(std::string_view what, int wait_status) {
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return absl::OkStatus();
  if (WIFEXITED(wait_status)) {
    return Error(absl::StatusCode::kFailedPrecondition, "{} exited with status {}", what,
                 WEXITSTATUS(wait_status));
  }
  return Error(absl::StatusCode::kFailedPrecondition, "{} was ended by signal {}", what,
               WTERMSIG(wait_status));
}

void BareClone::Unmapper::operator()(Memory* memory) const { munmap(memory, sizeof(Memory)); }

absl::StatusOr<BareClone> BareClone::Create() {
  void* memory =
      mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoError(errno, "mapping memory for a bare child");
  BareClone clone;
  clone.memory_.reset(static_cast<Memory*>(memory));
  new (&clone.memory_->child) BareChild;
  return clone;
}

absl::StatusOr<pid_t> BareClone::Start(std::uint64_t flags, int cgroup) {
  memory_->child.failed = BareStep::kNone;
  memory_->child.error = 0;
  memory_->child.parent = getpid();
  kernel::CloneArgs args;
  args.flags = flags;
  // No signal, as for brood's own workers: a SIGCHLD costs the parent something, too.
  args.exit_signal = 0;
  args.stack = reinterpret_cast<std::uint64_t>(memory_->stack);
  args.stack_size = sizeof(memory_->stack);
  if (cgroup >= 0) {
    args.flags |= kernel::kCloneIntoCgroup;
    args.cgroup = static_cast<std::uint64_t>(cgroup);
  }
  const sys::Result pid = sys::Clone3(args, BareChildMain, &memory_->child);
  if (pid < 0) return ErrnoError(static_cast<int>(-pid), "clone3 with flags {:#x}", flags);
  return static_cast<pid_t>(pid);
}

absl::Status BareClone::RunOnce(std::uint64_t flags, int cgroup) {
  BROOD_ASSIGN_OR_RETURN(const pid_t pid, Start(flags, cgroup));
  return Await(pid);
}

absl::Status BareClone::Await(pid_t pid) const {
  int wait_status = 0;
  while (waitpid(pid, &wait_status, __WALL) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "waiting for a bare child");
  }
  return Describe(wait_status);
}

absl::Status BareClone::Describe(int wait_status) const {
  const BareChild& child = memory_->child;
  if (child.failed != BareStep::kNone) {
    return ErrnoError(child.error, "a bare child, {}", Doing(child.failed));
  }
  return CheckExit("a bare child", wait_status);
}

}  // namespace brood::bench
