// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/reap.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/kernel.h"
#include "spawn/base/status.h"
#include "spawn/host/own_attributes.h"
#include "spawn/host/without.h"
#include "spawn/limits/limits_met.h"
#include "spawn/plan/capability_reach.h"

namespace brood {
namespace {

void AddTimeline(const Blueprint& blueprint, const Mailbox& box, const Exit& exit,
                 std::int64_t start, Outcome& outcome) {
  const auto add = [&](std::string_view name, std::int64_t at_ns) {
    if (at_ns == 0) return;
    outcome.timeline.push_back({std::string(name), static_cast<double>(at_ns - start) / 1000});
  };
  if (outcome.spawn_path != SpawnPath::kParked) {
    add("born", box.born_ns);
    add("cloned", box.cloned_ns);
    add("ids_mapped", box.mapped_ns);
    const Plan& plan = blueprint.plan();
    for (std::uint32_t i = 0; i < box.op_count && i < plan.worker.count; ++i) {
      add(StepName(plan.ops(plan.worker)[i].step), box.born_ns + std::int64_t{box.op_us[i]} * 1000);
    }
    add("set_up", box.parked_ns);
  }
  add("launched", box.launched_ns);
  add("exec", box.exec_ns);
  add("reaped", exit.reaped_ns);
  // The worker starts before clone3 has returned, and works while its ids are being mapped.
  std::stable_sort(outcome.timeline.begin(), outcome.timeline.end(),
                   [](const Moment& a, const Moment& b) { return a.at_us < b.at_us; });
}

// Whether the caller has such a child, ended or not, that nobody has reaped.
bool IsChild(idtype_t type, int id, siginfo_t& info) {
  return waitid(type, static_cast<id_t>(id), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

void AwaitEnd(idtype_t type, int id) {
  siginfo_t info{};
  while (waitid(type, static_cast<id_t>(id), &info, WEXITED | __WALL) != 0 && errno == EINTR) {
  }
}

}  // namespace

namespace {

absl::Status WaitedForByOthers() {
  return Error(absl::StatusCode::kNotFound,
               "how it ended is not known: the program that uses brood waited for a worker itself, "
               "or it ignores SIGCHLD; before Linux 6.15 the exit status is then lost");
}

absl::StatusOr<Exit> AskPidfd(int pidfd) {
  kernel::PidfdInfo info;
  // Whoever waits first is told a moment before the exit code is kept with the pidfd.
  bool known = false;
  for (int tries = Without(Way::kPidfdInfo) ? 50 : 0; !known && tries < 50; ++tries) {
    if (tries > 0) usleep(100);
    info.mask = kernel::kPidfdInfoExit;
    const bool told = ioctl(pidfd, kernel::kPidfdGetInfo, &info) == 0;
    if (!told && errno != ESRCH) break;  // a kernel that does not know the question
    known = told && (info.mask & kernel::kPidfdInfoExit) != 0;
  }
  if (!known) return WaitedForByOthers();
  Exit exit;
  exit.reaped_ns = NowNs();
  const bool exited = WIFEXITED(info.exit_code);
  exit.code = exited ? CLD_EXITED : WCOREDUMP(info.exit_code) ? CLD_DUMPED : CLD_KILLED;
  exit.status = exited ? WEXITSTATUS(info.exit_code) : WTERMSIG(info.exit_code);
  return exit;
}

absl::StatusOr<Exit> Wait(int pidfd, int flags) {
  siginfo_t info{};
  Exit exit;
  rusage usage{};
  // The system call rather than waitid(3): only it returns the resource usage.
  while (syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | __WALL | flags, &usage) != 0) {
    if (errno == ECHILD) return AskPidfd(pidfd);
    if (errno != EINTR) return ErrnoError(errno, "waiting for a worker");
  }
  exit.reaped_ns = NowNs();
  exit.code = info.si_code;
  exit.status = info.si_status;
  exit.usage = usage;
  return exit;
}

}  // namespace

absl::StatusOr<UniqueFd> OpenChild(int pid) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid() && errno == ESRCH) return WaitedForByOthers();
  siginfo_t info{};
  // The number may be another's by now.
  if (pidfd.valid() && !IsChild(P_PIDFD, pidfd.get(), info)) return WaitedForByOthers();
  if (pidfd.valid()) return pidfd;
  return ErrnoError(errno, "opening a worker's pidfd");
}

bool ReapIfEnded(int pid) {
  siginfo_t info{};
  const int result = waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | __WALL);
  return result != 0 || info.si_pid == pid;
}

absl::StatusOr<Exit> Reap(int pidfd) { return Wait(pidfd, 0); }

absl::StatusOr<Exit> AskHowItEnded(int pidfd) { return Wait(pidfd, WNOWAIT); }

void KillAndReap(int pid) {
  const absl::StatusOr<UniqueFd> pidfd = OpenChild(pid);
  if (pidfd.ok()) return KillAndReap(*pidfd);
  siginfo_t info{};
  // Without a descriptor to be had its number has to do.
  if (absl::IsNotFound(pidfd.status()) || !IsChild(P_PID, pid, info)) return;
  kill(pid, SIGKILL);
  AwaitEnd(P_PID, pid);
}

void KillAndReap(const UniqueFd& pidfd) {
  syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  AwaitEnd(P_PIDFD, pidfd.get());
}

bool HasEnded(int pid) {
  siginfo_t info{};
  return !IsChild(P_PID, pid, info) || info.si_pid != 0;
}

bool HasEnded(const UniqueFd& pidfd) {
  pollfd ended = {pidfd.get(), POLLIN, 0};
  return poll(&ended, 1, 0) > 0;
}

std::optional<SlotUse> SlotOf(const Blueprint& blueprint, const Mailbox& box) {
  if (blueprint.plan().slot_flags == 0) return std::nullopt;
  return SlotUse{box.slot_number, box.slot_uses};
}

Failure FailureOf(const Mailbox& box, const WorkerFacts& facts) {
  if (box.failure.failed() || !facts.frozen) return box.failure;
  return {Step::kBegin, 0, EBUSY};
}

namespace {

std::string_view MayLiveOn(bool timed_out) {
  return timed_out ? "the command ran out of time: it was killed with all its processes that were "
                     "found, but those that it put into a session of their own may live on, since "
                     "it had neither a pid namespace nor a cgroup of its own"
                   : "the command was killed with all its processes that were found, but those "
                     "that it put into a session of their own may live on, since it had neither a "
                     "pid namespace nor a cgroup of its own";
}

}  // namespace

void DescribeEnd(const Blueprint& blueprint, const Command& command, const Mailbox& box,
                 const Exit& exit, const WorkerFacts& facts, Outcome& outcome) {
  outcome.host_pid = box.pid;
  const NamespaceMode pid = blueprint.spec().ns(NamespaceKind::kPid).mode;
  outcome.inside_pid = pid == NamespaceMode::kNew ? 1 : pid == NamespaceMode::kHost ? box.pid : 0;
  outcome.wall_us = static_cast<double>(exit.reaped_ns - facts.requested_ns) / 1000;
  const auto micros = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  if (exit.usage) outcome.cpu_us = micros(exit.usage->ru_utime) + micros(exit.usage->ru_stime);
  AddTimeline(blueprint, box, exit, facts.requested_ns, outcome);
  if (outcome.spawn_path == SpawnPath::kParked && box.parked_ns != 0) {
    outcome.park_us = static_cast<double>(box.parked_ns - box.birth_ns) / 1000;
  }
  outcome.fallbacks.insert(outcome.fallbacks.end(), blueprint.fallbacks().begin(),
                           blueprint.fallbacks().end());
  if (box.sys_error != 0) {
    outcome.fallbacks.push_back({"a /sys of its own, with its network devices and its cgroup",
                                 "the launcher's, or one without its cgroup", box.sys_error});
  }
  if (box.idmap_error != 0) {
    outcome.fallbacks.push_back({"owners of the root's files mapped to the worker's ids",
                                 "files whose owner shows as nobody", box.idmap_error});
    for (const Fallback& lost : blueprint.unmapped_fallbacks()) {
      outcome.fallbacks.push_back({lost.wanted, lost.used, box.idmap_error});
    }
  }
  if (box.net_error != 0) {
    outcome.fallbacks.push_back({"ports below 1024 and ping without a capability",
                                 "its network namespace as the kernel makes it", box.net_error});
  }
  for (std::vector<Fallback>& kept :
       std::array{KeptAttributes(box.attributes), CapabilitiesWithoutEffect(blueprint.spec())}) {
    std::move(kept.begin(), kept.end(), std::back_inserter(outcome.fallbacks));
  }

  outcome.slot = SlotOf(blueprint, box);
  if (outcome.fresh.empty()) outcome.fresh = blueprint.fresh();

  outcome.failure = FailureOf(box, facts);
  if (exit.code == CLD_KILLED || exit.code == CLD_DUMPED) outcome.signal = exit.status;
  if (outcome.signal == SIGKILL && facts.ended_by != 0) outcome.signal = facts.ended_by;
  if (facts.by_tree) outcome.message = MayLiveOn(facts.timed_out);
  if (facts.timed_out) {
    outcome.end = End::kTimeout;
  } else if (facts.killed) {
    outcome.end = End::kKilled;
  } else if (outcome.failure.failed()) {
    outcome.end = End::kSetupFailed;
    outcome.signal = 0;
    outcome.message = blueprint.Describe(outcome.failure, blueprint.plan().worker, &command);
  } else if (outcome.signal == SIGKILL && outcome.usage.oom_kills.value_or(0) > 0) {
    outcome.end = End::kOom;
  } else if (exit.code == CLD_EXITED && box.exec_ns == 0) {
    // Told to abort before it ran anything.
    outcome.end = End::kSetupFailed;
    outcome.message = "the worker was abandoned before it ran the command";
  } else if (exit.code == CLD_EXITED) {
    outcome.end = End::kExited;
    outcome.exit_code = exit.status;
  } else {
    outcome.end = End::kSignalled;
  }
  outcome.limits_met = LimitsMet(blueprint.spec().limits, outcome);
  if (outcome.end == End::kSignalled && outcome.signal == SIGSYS &&
      blueprint.spec().seccomp.mode != SeccompMode::kOff) {
    outcome.limits_met.emplace_back(
        "its system call filter forbids a call that it made, and it was killed for that (SIGSYS)");
  }
}

}  // namespace brood
