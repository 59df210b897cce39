// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/session.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/process_tree.h"
#include "spawn/launch/signals.h"

namespace brood {
namespace {

// Of one stream at a time: who writes without end must not keep its deadline, or others, waiting.
constexpr int kMostReads = 64;

bool HasLeaf(const Subject& subject) { return subject.parent != nullptr && !subject.leaf.empty(); }

}  // namespace

bool Session::ReadOutput(std::size_t stream) {
  UniqueFd& fd = outputs[stream];
  if (!fd.valid()) return false;
  std::array<char, 65536> buffer;
  for (int reads = 0; reads < kMostReads; ++reads) {
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got > 0) {
      captures_[stream].Append({buffer.data(), static_cast<std::size_t>(got)});
    } else if (got < 0 && errno == EAGAIN) {
      return true;
    } else if (got == 0 || errno != EINTR) {
      fd.reset();
      return false;
    }
  }
  return true;
}

void Session::Kill(const Subject& subject) {
  leaf_spoilt = true;
  if (HasLeaf(subject) && subject.parent->KillLeaf(subject.leaf).ok()) return;
  if (!subject.blueprint.spec().is_new(NamespaceKind::kPid)) {
    if (subject.box.pid > 0) KillTree(subject.box.pid);
    facts.by_tree = true;
    return;
  }
  if (subject.pidfd >= 0) {
    syscall(SYS_pidfd_send_signal, subject.pidfd, SIGKILL, nullptr, 0);
  }
}

void Session::TimeOut(const Subject& subject) {
  facts.timed_out = true;
  Kill(subject);
}

void Session::KillAsAsked(const Subject& subject) {
  facts.killed = true;
  Kill(subject);
}

absl::Status Session::Signal(const Subject& subject, const SignalOrder& order) {
  if (order.number == 0) {
    KillAsAsked(subject);
    return absl::OkStatus();
  }
  const Recipient to = RecipientOf(subject.blueprint.spec(), subject.pidfd, subject.box);
  BROOD_ASSIGN_OR_RETURN(const bool ends, Deliver(to, order));
  // One that was killed on purpose is not made anew.
  if (ends || order.number == SIGKILL) facts.ended_by = order.number;
  return absl::OkStatus();
}

bool Session::EndIfFrozen(const Subject& subject) {
  if (!HasLeaf(subject) || HasLetGo(subject.box)) return false;
  if (!subject.parent->LeafFrozen(subject.leaf).value_or(false)) return false;
  facts.frozen = true;
  Kill(subject);
  return true;
}

bool Session::Ended(const Subject& subject, absl::StatusOr<Exit> how) {
  if (how.ok()) {
    exit = *std::move(how);
  } else {
    EndedUnseen(std::string(Message(how.status())));
  }
  bool open = false;
  for (std::size_t i = 0; i < outputs.size(); ++i) open |= ReadOutput(i);
  if (!open) return true;
  // What it left running outside a pid namespace of its own.
  leaf_spoilt = true;
  if (HasLeaf(subject)) (void)subject.parent->KillLeaf(subject.leaf);
  return false;
}

void Session::EndedUnseen(std::string why) {
  exit = Exit{};
  exit->reaped_ns = NowNs();
  lost_ = std::move(why);
}

bool Session::EndedBySigkill() const { return exit->code != CLD_EXITED && exit->status == SIGKILL; }

bool Session::NeverSeen(const Subject& subject) const {
  return subject.box.launched_ns == 0 && !FailureOf(subject.box, facts).failed() &&
         !facts.timed_out && !facts.killed && facts.ended_by == 0;
}

void Session::Tell(const Subject& subject, const Command& command, bool usage_wanted,
                   Outcome& outcome) {
  if (HasLeaf(subject) &&
      (usage_wanted || subject.blueprint.spec().limits.any() || EndedBySigkill())) {
    outcome.usage = subject.parent->ReadLeafUsage(subject.leaf);
    // Its counts would be taken for the next worker's.
    leaf_spoilt |= outcome.usage.oom_kills.value_or(0) > 0;
  }
  DescribeEnd(subject.blueprint, command, subject.box, *exit, facts, outcome);
  if (!lost_.empty()) {
    outcome.end = End::kUnknown;
    outcome.message = lost_;
  }
  outcome.out_bytes = captures_[0].total();
  outcome.err_bytes = captures_[1].total();
  outcome.out = captures_[0].Take();
  outcome.err = captures_[1].Take();
}

}  // namespace brood
