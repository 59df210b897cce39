// SPDX-License-Identifier: Apache-2.0

// One cold worker, watched from start to end with ppoll(2): the command line's `brood run`.
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/process_tree.h"
#include "spawn/launch/capture.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"
#include "spawn/launch/signals.h"

namespace brood {
namespace {

class Supervisor {
 public:
  Supervisor(ColdWorker& worker, const Command& command, const Birthplace& place,
             const ParentCgroup* parent, int orders, const Spec& spec)
      : worker_(worker), place_(place), parent_(parent), orders_(orders), spec_(spec) {
    captures_.fill(Capture(command.stdio.capture_bytes));
    if (command.timeout) deadline_ns_ = NowNs() + command.timeout->count();
  }

  // Returns when the worker has ended and its captured output is read to the last byte.
  absl::Status Watch() {
    bool ended = false;
    while (!ended || AnyOutputOpen()) {
      std::array<pollfd, 4> fds{{{ended ? -1 : worker_.pidfd(), POLLIN, 0},
                                 {worker_.outputs()[0].get(), POLLIN, 0},
                                 {worker_.outputs()[1].get(), POLLIN, 0},
                                 {ended ? -1 : orders_, POLLIN, 0}}};
      const std::int64_t wake_ns = ended ? 0 : NextLook();
      const timespec wait = TimeUntil(wake_ns);
      const int ready = ppoll(fds.data(), fds.size(), wake_ns == 0 ? nullptr : &wait, nullptr);
      if (ready < 0 && errno != EINTR) return ErrnoError(errno, "watching the worker");
      if (ready == 0) OnTime();
      if (ready <= 0) continue;
      if (fds[3].revents != 0) TakeOrder();
      for (std::size_t i = 0; i < 2; ++i) {
        if (fds[i + 1].revents != 0) ReadOutput(i);
      }
      if (fds[0].revents != 0) {
        BROOD_ASSIGN_OR_RETURN(exit, Reap(worker_.pidfd()));
        worker_.Reaped();
        ended = true;
        // Whatever it left running in its cgroup would keep the output open.
        if (parent_ != nullptr && AnyOutputOpen()) (void)parent_->KillLeaf(place_.leaf);
      }
    }
    return absl::OkStatus();
  }

  Exit exit;
  WorkerFacts facts;
  Capture& capture(std::size_t stream) { return captures_[stream]; }

 private:
  bool AnyOutputOpen() const {
    return worker_.outputs()[0].valid() || worker_.outputs()[1].valid();
  }

  // When to look without having been woken; 0: never.
  std::int64_t NextLook() const {
    if (begin_by_ns_ == 0 || deadline_ns_ == 0) return std::max(begin_by_ns_, deadline_ns_);
    return std::min(begin_by_ns_, deadline_ns_);
  }

  static timespec TimeUntil(std::int64_t at_ns) {
    const std::int64_t left = std::max<std::int64_t>(0, at_ns - NowNs());
    return {left / 1'000'000'000, left % 1'000'000'000};
  }

  void OnTime() {
    const std::int64_t now = NowNs();
    if (deadline_ns_ != 0 && deadline_ns_ <= now) {
      facts.timed_out = true;
      deadline_ns_ = 0;
      return Kill();
    }
    if (begin_by_ns_ == 0 || begin_by_ns_ > now) return;
    begin_by_ns_ = 0;
    if (parent_ == nullptr || place_.leaf.empty() || HasLetGo(worker_.mailbox())) return;
    if (!parent_->LeafFrozen(place_.leaf).value_or(false)) {
      begin_by_ns_ = now + kLongLaunchNs;
      return;
    }
    facts.frozen = true;
    Kill();
  }

  void Kill() {
    if (parent_ != nullptr && !place_.leaf.empty() && parent_->KillLeaf(place_.leaf).ok()) return;
    if (!spec_.is_new(NamespaceKind::kPid)) {
      KillTree(worker_.mailbox().pid);
      facts.by_tree = true;
      return;
    }
    syscall(SYS_pidfd_send_signal, worker_.pidfd(), SIGKILL, nullptr, 0);
  }

  void TakeOrder() {
    SignalOrder order;
    if (recv(orders_, &order, sizeof(order), MSG_DONTWAIT) != sizeof(order)) {
      orders_ = -1;  // nobody is there any more to give one
      return;
    }
    if (order.number == 0) {
      facts.killed = true;
      Kill();
    } else {
      const Mailbox& box = worker_.mailbox();
      const Recipient to = RecipientOf(spec_, worker_.pidfd(), box);
      if (const absl::StatusOr<bool> ends = Deliver(to, order); ends.ok() && *ends) {
        facts.ended_by = order.number;
      }
    }
    const char done = 0;
    (void)send(orders_, &done, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  void ReadOutput(std::size_t stream) {
    std::array<char, 65536> buffer;
    UniqueFd& fd = worker_.outputs()[stream];
    for (;;) {
      const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
      if (got > 0) {
        captures_[stream].Append({buffer.data(), static_cast<std::size_t>(got)});
        continue;
      }
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      fd.reset();
      return;
    }
  }

  ColdWorker& worker_;
  const Birthplace& place_;
  const ParentCgroup* parent_;
  int orders_;
  const Spec& spec_;
  std::array<Capture, 2> captures_;
  std::int64_t deadline_ns_ = 0;
  std::int64_t begin_by_ns_ = NowNs() + kLongLaunchNs;
};

}  // namespace

absl::StatusOr<Outcome> RunCold(const Blueprint& blueprint, const Command& command,
                                const Birthplace& place, const ParentCgroup* parent, int orders,
                                const std::function<absl::Status(int pid)>& on_started) {
  Outcome outcome;
  outcome.spawn_path = SpawnPath::kCold;
  const std::int64_t requested = NowNs();
  BROOD_ASSIGN_OR_RETURN(const LauncherFds launcher, LauncherFds::Open());
  BROOD_ASSIGN_OR_RETURN(ColdWorker worker, ColdWorker::Start(blueprint, command, place, launcher));
  Supervisor supervisor(worker, command, place, parent, orders, blueprint.spec());
  supervisor.facts.requested_ns = requested;
  if (worker.started()) {
    if (on_started) BROOD_RETURN_IF_ERROR(on_started(worker.mailbox().pid));
    BROOD_RETURN_IF_ERROR(supervisor.Watch());
  } else {
    supervisor.exit.reaped_ns = NowNs();
  }
  if (parent != nullptr && !place.leaf.empty()) {
    outcome.usage = parent->ReadLeafUsage(place.leaf);
  }
  DescribeEnd(blueprint, command, worker.mailbox(), supervisor.exit, supervisor.facts, outcome);
  outcome.out_bytes = supervisor.capture(0).total();
  outcome.err_bytes = supervisor.capture(1).total();
  outcome.out = supervisor.capture(0).Take();
  outcome.err = supervisor.capture(1).Take();
  return outcome;
}

}  // namespace brood
