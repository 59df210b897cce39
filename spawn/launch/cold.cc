// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/cold.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/child/birth.h"
#include "spawn/child/setns_helper.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/machine.h"
#include "spawn/host/own_attributes.h"
#include "spawn/host/subordinate_ids.h"
#include "spawn/launch/launch.h"
#include "spawn/launch/reap.h"
#include "spawn/limits/advice.h"

namespace brood {
namespace {

// A worker that changes its ids makes the memory it shares undumpable, which is right while it
// shares it and wrong for the launcher afterwards: the last one to leave puts it back.
class DumpableKeeper {
 public:
  void Enter() {
    const std::lock_guard lock(mutex_);
    if (sharers_++ == 0) dumpable_ = prctl(PR_GET_DUMPABLE);
  }
  void Leave() {
    const std::lock_guard lock(mutex_);
    if (--sharers_ == 0 && dumpable_ == 1) prctl(PR_SET_DUMPABLE, 1);
  }

 private:
  std::mutex mutex_;
  int sharers_ = 0;
  int dumpable_ = 0;
};
DumpableKeeper& Dumpable() {
  static DumpableKeeper keeper;
  return keeper;
}

std::uint64_t IgnoredSignals() {
  return NumberBehind(TextOf("/proc/self/status"), "SigIgn:", 16).value_or(0);
}

// Has a setns helper bear the worker. `memory` is shared with both, and so is the setns helper's
// stack. As BirthWorker.
sys::Result BirthBehind(const Blueprint& blueprint, const BirthRequest& birth, char* memory,
                        char* stack, int& pidfd) {
  SetnsHelperRequest& request = *new (memory) SetnsHelperRequest;
  request.birth = birth;
  std::size_t count = 0;
  for (const Blueprint::LauncherJoin& join : blueprint.launcher_joins()) {
    request.joins[count++] = {join.fd, NamespaceFlag(join.kind)};
  }
  const sys::Result pid = BirthBySetnsHelper(request, stack);
  pidfd = request.pidfd;
  return pid;
}

}  // namespace

absl::StatusOr<LauncherFds> LauncherFds::Open() {
  LauncherFds fds;
  fds.proc.reset(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fds.proc.valid()) return ErrnoError(errno, "opening /proc");
  fds.self.reset(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!fds.self.valid()) return ErrnoError(errno, "opening a pidfd (Linux 5.3) of this process");
  fds.null.reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!fds.null.valid()) return ErrnoError(errno, "opening /dev/null");
  fds.ignored_signals = IgnoredSignals();
  fds.odd_attributes = OddAttributes();
  return fds;
}

void SetIdMap(const Blueprint& blueprint, std::uint32_t id_first, Mailbox& box) {
  const Machine& machine = ThisMachine();
  if (machine.id_ranges) {
    box.inside_uid = box.inside_gid = 0;
    box.uid_base = box.gid_base = id_first;
    box.id_count = kIdsPerRange;
    return;
  }
  // Its one id is its launcher's, which is 0 in the namespace of a zygote that has one.
  const bool nested = blueprint.plan().zygote_user != 0;
  box.inside_uid = blueprint.spec().uid;
  box.inside_gid = blueprint.spec().gid;
  box.uid_base = nested ? 0 : machine.uid;
  box.gid_base = nested ? 0 : machine.gid;
  box.id_count = 1;
}

std::optional<HostIds> HostIdsOf(const Blueprint& blueprint, std::uint32_t id_first) {
  const Spec& spec = blueprint.spec();
  if (!ThisMachine().id_ranges) return std::nullopt;
  switch (spec.ns(NamespaceKind::kUser).mode) {
    case NamespaceMode::kNew:
      return HostIds{id_first + spec.uid, id_first + spec.gid};
    case NamespaceMode::kHost:
      return HostIds{spec.uid, spec.gid};
    case NamespaceMode::kJoin:
      break;
  }
  return std::nullopt;
}

ColdWorker::ColdWorker(ColdWorker&& other) noexcept { *this = std::move(other); }

ColdWorker& ColdWorker::operator=(ColdWorker&& other) noexcept {
  if (this == &other) return *this;
  Release();
  memory_ = std::exchange(other.memory_, nullptr);
  memory_bytes_ = std::exchange(other.memory_bytes_, 0);
  box_ = std::exchange(other.box_, nullptr);
  pidfd_ = std::move(other.pidfd_);
  outputs_ = std::move(other.outputs_);
  terminals_ = std::move(other.terminals_);
  return *this;
}

ColdWorker::~ColdWorker() { Release(); }

void ColdWorker::Release() {
  if (pidfd_.valid()) {
    syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    (void)Reap(pidfd_.get());
    pidfd_.reset();
  }
  if (memory_ == nullptr) return;
  munmap(memory_, memory_bytes_);
  memory_ = nullptr;
  box_ = nullptr;
  Dumpable().Leave();
}

absl::StatusOr<ColdWorker> ColdWorker::Start(const Blueprint& blueprint, const Command& command,
                                             const Birthplace& place, const LauncherFds& launcher) {
  BROOD_RETURN_IF_ERROR(Validate(command));
  BROOD_ASSIGN_OR_RETURN(const std::vector<UniqueFd> trees, blueprint.OpenTrees());

  const LaunchLayout layout(command);
  // The stacks first, each above its guard; what they must not run into behind them.
  const std::size_t box_at = (blueprint.by_setns_helper() ? 2 : 1) * kGuardedStackBytes;
  const std::size_t helper_at = box_at + PageUp(sizeof(Mailbox) + layout.bytes());
  ColdWorker worker;
  worker.memory_bytes_ =
      blueprint.by_setns_helper() ? helper_at + PageUp(sizeof(SetnsHelperRequest)) : helper_at;
  // Shared, so that mailbox and failure reach us from a child that copied our memory, too.
  void* memory = mmap(nullptr, worker.memory_bytes_, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoError(errno, "mapping memory for a worker's start");
  worker.memory_ = static_cast<char*>(memory);
  Dumpable().Enter();
  for (std::size_t guard = 0; guard < box_at; guard += kGuardedStackBytes) {
    if (mprotect(worker.memory_ + guard, kStackGuardBytes, PROT_NONE) != 0) {
      return ErrnoError(errno, "guarding the stack of a worker's start");
    }
  }

  Mailbox& box = *new (worker.memory_ + box_at) Mailbox;
  worker.box_ = &box;
  char* strings = worker.memory_ + box_at + sizeof(Mailbox);
  layout.Write(strings, reinterpret_cast<std::uint64_t>(strings), box.launch);
  SetIdMap(blueprint, place.id_first, box);
  if (place.leaf.size() >= sizeof(box.leaf)) {
    return InvalidError("the cgroup leaf's name {} is too long", place.leaf);
  }
  std::memcpy(box.leaf, place.leaf.c_str(), place.leaf.size() + 1);

  BROOD_ASSIGN_OR_RETURN(
      PreparedStdio stdio,
      PrepareStdio(command.stdio, launcher.null.get(), HostIdsOf(blueprint, place.id_first),
                   blueprint.spec().ns(NamespaceKind::kUser).mode == NamespaceMode::kHost));
  std::copy(stdio.fds.begin(), stdio.fds.end(), box.launch.fds);
  worker.outputs_ = std::move(stdio.outputs);
  worker.terminals_ = std::move(stdio.terminals);

  BirthRequest request;
  request.context.plan = &blueprint.plan();
  request.context.box = &box;
  std::vector<int> tree_fds;
  tree_fds.reserve(trees.size());
  for (const UniqueFd& tree : trees) tree_fds.push_back(tree.get());
  request.context.trees = tree_fds.data();
  for (std::size_t i = 0; i < blueprint.namespace_fds().size() && i < kMaxPlanFds; ++i) {
    request.context.fds[i] = blueprint.namespace_fds()[i].get();
  }
  request.context.ignored_signals = launcher.ignored_signals;
  request.context.launcher_pidfd = launcher.self.get();
  request.stack = worker.memory_ + kStackGuardBytes;
  int pidfd = -1;
  request.extra_flags = kernel::kClonePidfd;
  request.pidfd = &pidfd;
  request.parent_fd = place.parent_fd;
  request.context.proc_fd = launcher.proc.get();
  request.attributes = launcher.odd_attributes;

  const sys::Result pid =
      blueprint.by_setns_helper()
          ? BirthBehind(blueprint, request, worker.memory_ + helper_at,
                        worker.memory_ + kGuardedStackBytes + kStackGuardBytes, pidfd)
          : BirthWorker(request);
  worker.pidfd_.reset(pidfd);
  if (pid > 0 && blueprint.plan().maps_by == MapsBy::kLauncher) {
    const absl::Status mapped = MapSubordinateIds(static_cast<pid_t>(pid));
    FinishBirth(request, pid, mapped.ok() ? 0 : -EPERM);
    BROOD_RETURN_IF_ERROR(mapped);
  }
  return worker;
}

}  // namespace brood
