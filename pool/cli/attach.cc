#include "pool/cli/attach.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <optional>

#include "pool/cli/commands.h"
#include "spawn/status.h"

namespace brood {
namespace {

absl::StatusOr<UniqueFd> TakeSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT}) {
    sigaddset(&set, number);
  }
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return ErrnoError(errno, "blocking signals");
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return ErrnoError(errno, "taking signals");
  return fd;
}

class Session {
 public:
  Session(Client& client, int signals) : client_(client), signals_(signals) {}

  absl::StatusOr<Ended> Watch(std::uint64_t tag, const TerminalSocket* socket) {
    int waiting_for_master = socket == nullptr ? -1 : socket->ours.get();
    for (;;) {
      const bool relaying = relay_ && relay_->open();
      const short master_events =
          static_cast<short>(POLLIN | (relaying && relay_->wants_write() ? POLLOUT : 0));
      std::array<pollfd, 5> fds{{{client_.fd(), POLLIN, 0},
                                 {signals_, POLLIN, 0},
                                 {waiting_for_master, POLLIN, 0},
                                 {relaying ? relay_->master() : -1, master_events, 0},
                                 {relaying ? relay_->in() : -1, POLLIN, 0}}};
      if (poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return ErrnoError(errno, "waiting for the command");
      }
      if (fds[1].revents != 0) Forward(tag);
      if (fds[2].revents != 0) {
        // Without a master the answer tells why.
        if (absl::StatusOr<UniqueFd> master = socket->TakeMaster(); master.ok()) {
          relay_.emplace(*std::move(master), STDIN_FILENO, STDOUT_FILENO);
        }
        waiting_for_master = -1;
      }
      if ((fds[3].revents & POLLOUT) != 0) relay_->ToCommand();
      if ((fds[3].revents & ~POLLOUT) != 0) relay_->FromCommand();
      if (fds[4].revents != 0) relay_->FromUser();
      if (fds[0].revents == 0) continue;
      BROOD_ASSIGN_OR_RETURN(const Incoming message, client_.Next());
      // A command that is over before we have looked may have left all its words in the terminal.
      if (waiting_for_master >= 0) {
        if (absl::StatusOr<UniqueFd> master = socket->TakeMaster(); master.ok()) {
          relay_.emplace(*std::move(master), STDIN_FILENO, STDOUT_FILENO);
        }
      }
      if (relay_) relay_->Drain();
      return DecodeBody<Ended>(message.body);
    }
  }

 private:
  void Forward(std::uint64_t tag) {
    signalfd_siginfo info{};
    while (read(signals_, &info, sizeof(info)) == sizeof(info)) {
      const int number = static_cast<int>(info.ssi_signo);
      if (number == SIGWINCH) {
        if (relay_) relay_->FollowSize();
        continue;
      }
      const bool ends =
          number == SIGINT || number == SIGTERM || number == SIGQUIT || number == SIGHUP;
      // An init without a handler never sees the first one: the second means it.
      const bool again = ends && number == last_ending_signal_;
      (void)client_.SignalForeground(tag, again ? 0 : number);
      if (ends) last_ending_signal_ = number;
    }
  }

  Client& client_;
  const int signals_;
  std::optional<TerminalRelay> relay_;
  int last_ending_signal_ = 0;
};

}  // namespace

absl::StatusOr<Ended> Attach(Client& client, const AttachOptions& options,
                             const std::function<absl::StatusOr<std::uint64_t>(
                                 ClientIo, TerminalSize, std::span<const int>)>& start) {
  BROOD_ASSIGN_OR_RETURN(const UniqueFd signals, TakeSignals());
  Session session(client, signals.get());
  if (options.terminal) {
    BROOD_ASSIGN_OR_RETURN(TerminalSocket socket, TerminalSocket::Make());
    BROOD_ASSIGN_OR_RETURN(const std::unique_ptr<RawTerminal> raw,
                           RawTerminal::Enter(STDIN_FILENO));
    const int fd = socket.workers.get();
    BROOD_ASSIGN_OR_RETURN(const std::uint64_t tag, start(ClientIo::kTerminal, SizeOf(STDIN_FILENO),
                                                          std::span<const int>(&fd, 1)));
    socket.workers.reset();
    return session.Watch(tag, &socket);
  }
  UniqueFd null;
  std::array<int, 3> fds{STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  if (!options.interactive) {
    null.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null.valid()) return ErrnoError(errno, "opening /dev/null");
    fds[0] = null.get();
  }
  BROOD_ASSIGN_OR_RETURN(const std::uint64_t tag, start(ClientIo::kFds, {}, fds));
  return session.Watch(tag, nullptr);
}

int Report(const absl::StatusOr<Ended>& ended) {
  if (!ended.ok()) return Complain(ended.status());
  if (!ended->message.empty()) std::fprintf(stderr, "brood: %s\n", ended->message.c_str());
  return ended->exit_status;
}

}  // namespace brood
