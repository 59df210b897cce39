// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/signals.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/process_stat.h"
#include "spawn/host/process_tree.h"

namespace brood {
namespace {

// signal(7), "Standard signals": what a process that has not asked for anything does.
enum class DefaultAction : std::uint8_t { kEnd, kStop, kNothing };
DefaultAction DefaultOf(int number) {
  switch (number) {
    case SIGCHLD:
    case SIGCONT:
    case SIGURG:
    case SIGWINCH:
      return DefaultAction::kNothing;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return DefaultAction::kStop;
    default:
      return DefaultAction::kEnd;
  }
}

enum class Attitude : std::uint8_t { kDefault, kBlocks, kOther };

// What a process does with a signal. kOther where nobody tells, too: the kernel alone decides then.
Attitude AttitudeOf(int pid, int number) {
  const std::string status = TextOf(fmt::format("/proc/{}/status", pid));
  const auto blocked = NumberBehind(status, "SigBlk:", 16);
  const auto ignored = NumberBehind(status, "SigIgn:", 16);
  const auto caught = NumberBehind(status, "SigCgt:", 16);
  if (!blocked || !ignored || !caught) return Attitude::kOther;
  if (((*ignored | *caught) >> (number - 1) & 1) != 0) return Attitude::kOther;
  if ((*blocked >> (number - 1) & 1) != 0) return Attitude::kBlocks;
  // While it waits for signals they do not show as blocked (do_sigtimedwait in the kernel).
  std::istringstream call(TextOf(fmt::format("/proc/{}/syscall", pid)));
  long system_call = -1;
  const bool waits = call >> system_call && system_call == SYS_rt_sigtimedwait;
  return waits ? Attitude::kOther : Attitude::kDefault;
}

// Whether a process neither handles, nor ignores, nor blocks a signal; one that is blocked may be
// waited for (sigwait(3), signalfd(2)). But libc blocks all while it starts a process, and the
// kernel drops what has come meanwhile for an init: so whoever blocks it is looked at again for a
// while.
bool TakesDefault(int pid, int number) {
  constexpr int kLooks = 20;
  for (int look = 0; look < kLooks; ++look) {
    const Attitude attitude = AttitudeOf(pid, number);
    if (attitude != Attitude::kBlocks) return attitude == Attitude::kDefault;
    usleep(1000);
  }
  return false;
}

// Returns once all of a process group that a process leads, as far as it descends from that, has
// stopped, or does not within a time that its launcher can spare: a stop is told by a signal, and
// whoever is in a read may still take what comes before it sees that.
void AwaitStopped(int leader) {
  constexpr int kPatienceMs = 100;
  for (int waited = 0; waited < kPatienceMs; ++waited) {
    bool all = true;
    std::vector<int> processes = {leader};
    for (std::size_t i = 0; i < processes.size(); ++i) {
      const std::optional<ProcessStat> stat = StatOf(processes[i]);
      all = all && (!stat || stat->group != leader ||
                    std::string_view("TtZX").find(stat->state) != std::string_view::npos);
      for (const int child : ChildrenOf(processes[i])) processes.push_back(child);
    }
    if (all) return;
    usleep(1000);
  }
}

}  // namespace

Recipient RecipientOf(const Spec& spec, int pidfd, const Mailbox& box) {
  // One that becomes an init of ours blocks all before its command is born.
  const bool starting = spec.init ? box.exec_ns == 0 : !HasLetGo(box);
  return {pidfd, box.pid, spec.is_new(NamespaceKind::kPid), starting};
}

absl::StatusOr<bool> Deliver(const Recipient& to, const SignalOrder& order) {
  const int number = order.number;
  const auto send = [&](int signal) {
    return syscall(SYS_pidfd_send_signal, to.pidfd, signal, nullptr, 0) == 0;
  };
  const auto failed = [&](int error) {
    return error == ESRCH ? Error(absl::StatusCode::kNotFound, "the command has ended")
                          : ErrnoError(error, "sending signal {} to the worker", number);
  };
  const DefaultAction action = DefaultOf(number);
  const bool always_acts = number == SIGKILL || number == SIGSTOP || number == SIGCONT;
  const bool asked =
      !always_acts && (to.init || order.handlers_only != 0 || action == DefaultAction::kStop);
  const bool by_default = asked && (to.starting || TakesDefault(to.pid, number));
  if (order.handlers_only != 0 && by_default) return false;

  // A session whose leader's parent is not in it is an orphaned process group (setpgid(2)), which
  // only SIGSTOP stops.
  const int sent = by_default && action == DefaultAction::kStop ? SIGSTOP : number;
  // It leads that session, so its process group has its number; early in its start it does not yet,
  // and there is nobody else to send it to.
  const bool to_group = order.group != 0 && kill(-to.pid, sent) == 0;
  if (!to_group && !send(sent)) return failed(errno);
  if (sent == SIGSTOP) AwaitStopped(to.pid);
  if (!to.init || !by_default || action != DefaultAction::kEnd) return false;
  if (!send(SIGKILL)) return failed(errno);
  return true;
}

bool AsksToEnd(int number) {
  return number == SIGINT || number == SIGTERM || number == SIGQUIT || number == SIGHUP;
}

bool EndRequests::MeansKill(int number, std::int64_t now_ns) {
  constexpr std::int64_t kAtOnceNs = 100'000'000;
  if (!AsksToEnd(number)) return false;
  const bool again = last_ != 0 && (number != last_ || now_ns - last_ns_ > kAtOnceNs);
  if (last_ == 0 || again) {
    last_ = number;
    last_ns_ = now_ns;
  }
  return again;
}

}  // namespace brood
