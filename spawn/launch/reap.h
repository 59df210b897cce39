// SPDX-License-Identifier: Apache-2.0

// The end of a worker: reaping it, and telling how it ended.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/mailbox.h"
#include "spawn/outcome.h"
#include "spawn/plan/blueprint.h"

namespace brood {

struct Exit {
  int code = 0;    // CLD_EXITED, CLD_KILLED, CLD_DUMPED
  int status = 0;  // exit status or signal
  // Of the worker and all it waited for. Only the process that reaps it is told.
  std::optional<rusage> usage;
  std::int64_t reaped_ns = 0;
};

// Reaps the child behind `pidfd`, which must have ended (its pidfd is readable); blocks otherwise.
// A process that has exec'd looks like any other child, whatever exit signal it was cloned with, so
// a host program that waits for any child may have reaped it first, or the kernel, if the program
// ignores SIGCHLD. Then the exit code comes from the pidfd (Linux 6.15), without resource usage.
// kNotFound where the kernel cannot tell.
absl::StatusOr<Exit> Reap(int pidfd);

// The same, but leaves the child for Reap: taking a process down takes several times as long as
// asking how it ended, and the answer need not wait for that.
absl::StatusOr<Exit> AskHowItEnded(int pidfd);

// A pidfd of the child `pid`, close-on-exec and the caller's. To be opened while it is certainly
// there: once a worker has exec'd, the program around brood may reap it, and its pid may be used
// again. kNotFound when it is not, or no longer, a child of the caller.
absl::StatusOr<UniqueFd> OpenChild(int pid);

// Kills the child and reaps it. One that the program around brood has reaped is left alone, and so
// is a process that has its pid now.
void KillAndReap(int pid);
void KillAndReap(const UniqueFd& pidfd);

// Reaps the child `pid` if it has ended. False while it lives. One that the program around brood
// has reaped counts as reaped. To be asked soon: later, the number may be another child's.
bool ReapIfEnded(int pid);

// Whether the child `pid` has ended. Does not reap it.
bool HasEnded(int pid);
// The same for the child behind a pidfd.
bool HasEnded(const UniqueFd& pidfd);

// What the launcher knows of a worker beside its mailbox.
struct WorkerFacts {
  std::int64_t requested_ns = 0;  // CLOCK_MONOTONIC, when the request came
  bool timed_out = false;
  bool killed = false;   // by the caller
  bool by_tree = false;  // killed process by process (KillTree)
  int ended_by = 0;      // the signal for which SIGKILL was sent (spawn/launch/signals.h); 0: none
  bool frozen = false;   // by the launcher, since it was held before exec in a frozen cgroup
};

// A worker that has not reached its exec after so long is checked: its cgroup may be frozen, which
// no event reports.
inline constexpr std::int64_t kLongLaunchNs = 1'000'000'000;

// The slot that a worker lives in; none where it has namespaces of its own.
std::optional<SlotUse> SlotOf(const Blueprint& blueprint, const Mailbox& box);

// What a worker failed at, as its mailbox or the launcher's facts say.
Failure FailureOf(const Mailbox& box, const WorkerFacts& facts);

// Fills in everything but id, template and captured output; path and cgroup usage must be set.
void DescribeEnd(const Blueprint& blueprint, const Command& command, const Mailbox& box,
                 const Exit& exit, const WorkerFacts& facts, Outcome& outcome);

}  // namespace brood
