// SPDX-License-Identifier: Apache-2.0

// One cold worker, watched from start to end with ppoll(2): the command line's `brood run`.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"
#include "spawn/launch/session.h"

namespace brood {
namespace {

// Waits for all that can happen to one worker.
class Supervisor {
 public:
  Supervisor(ColdWorker& worker, const Command& command, const Subject& subject, int orders)
      : worker_(worker), subject_(subject), orders_(orders) {
    session.CaptureUpTo(command.stdio.capture_bytes);
    session.outputs = std::move(worker.outputs());
    if (command.timeout) deadline_ns_ = NowNs() + command.timeout->count();
  }

  // Returns when the worker has ended and its captured output is read to the last byte.
  absl::Status Watch() {
    while (!session.exit || session.OutputOpen()) {
      const bool ended = session.exit.has_value();
      std::array<pollfd, 4> fds{{{ended ? -1 : worker_.pidfd(), POLLIN, 0},
                                 {session.outputs[0].get(), POLLIN, 0},
                                 {session.outputs[1].get(), POLLIN, 0},
                                 {ended ? -1 : orders_, POLLIN, 0}}};
      const std::int64_t wake_ns = ended ? 0 : NextLook();
      const timespec wait = TimeUntil(wake_ns);
      const int ready = ppoll(fds.data(), fds.size(), wake_ns == 0 ? nullptr : &wait, nullptr);
      if (ready < 0 && errno != EINTR) return ErrnoError(errno, "watching the worker");
      if (ready == 0) OnTime();
      if (ready <= 0) continue;
      if (fds[3].revents != 0) TakeOrder();
      for (std::size_t i = 0; i < 2; ++i) {
        if (fds[i + 1].revents != 0) (void)session.ReadOutput(i);
      }
      if (fds[0].revents != 0) {
        BROOD_ASSIGN_OR_RETURN(const Exit exit, Reap(worker_.pidfd()));
        worker_.Reaped();
        (void)session.Ended(subject_, exit);
      }
    }
    return absl::OkStatus();
  }

  Session session;

 private:
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
      deadline_ns_ = 0;
      return session.TimeOut(subject_);
    }
    if (begin_by_ns_ == 0 || begin_by_ns_ > now) return;
    const bool over = HasLetGo(subject_.box) || session.EndIfFrozen(subject_);
    begin_by_ns_ = over ? 0 : now + kLongLaunchNs;
  }

  void TakeOrder() {
    SignalOrder order;
    if (recv(orders_, &order, sizeof(order), MSG_DONTWAIT) != sizeof(order)) {
      orders_ = -1;  // nobody is there any more to give one
      return;
    }
    (void)session.Signal(subject_, order);
    const char done = 0;
    (void)send(orders_, &done, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  ColdWorker& worker_;
  const Subject subject_;
  int orders_;
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
  const Subject subject{.blueprint = blueprint,
                        .box = worker.mailbox(),
                        .pidfd = worker.pidfd(),
                        .parent = parent,
                        .leaf = place.leaf};
  Supervisor supervisor(worker, command, subject, orders);
  Session& session = supervisor.session;
  session.facts.requested_ns = requested;
  if (worker.started()) {
    if (on_started) BROOD_RETURN_IF_ERROR(on_started(worker.mailbox().pid));
    BROOD_RETURN_IF_ERROR(supervisor.Watch());
  } else {
    session.EndedUnseen();
  }
  session.Tell(subject, command, /*usage_wanted=*/true, outcome);
  return outcome;
}

}  // namespace brood
