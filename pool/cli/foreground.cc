// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/foreground.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// In the background: how often the command is looked at for whether it reads, and whether it has
// come to the foreground, of which nobody is told.
constexpr std::int64_t kLookNs = 50'000'000;

// A command has this long to end once its terminal is gone.
constexpr std::int64_t kHangUpGraceNs = 5'000'000'000;

constexpr std::array kForCommand = {SIGINT,  SIGTERM,  SIGQUIT, SIGHUP, SIGUSR1,
                                    SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP};

bool InMask(std::uint64_t mask, int number) { return (mask >> (number - 1) & 1) != 0; }

}  // namespace

absl::StatusOr<std::unique_ptr<Foreground>> Foreground::Begin(const Options& options) {
  std::unique_ptr<Foreground> out(new Foreground);
  out->options_ = options;
  BROOD_RETURN_IF_ERROR(out->TakeSignals());
  if (options.terminal) {
    BROOD_ASSIGN_OR_RETURN(out->socket_, TerminalSocket::Make());
    BROOD_ASSIGN_OR_RETURN(out->raw_, RawTerminal::Enter(STDIN_FILENO));
    out->master_awaited_ = true;
    return out;
  }
  if (options.input) {
    BROOD_RETURN_IF_ERROR(out->PrepareInput());
  } else {
    out->null_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!out->null_.valid()) return ErrnoError(errno, "opening /dev/null");
  }
  return out;
}

Foreground::~Foreground() = default;

absl::Status Foreground::TakeSignals() {
  sigemptyset(&taken_);
  for (const int number : kForCommand) {
    struct sigaction action = {};
    sigaction(number, nullptr, &action);
    if (action.sa_handler == SIG_IGN) ignored_ |= std::uint64_t{1} << (number - 1);
    sigaddset(&taken_, number);
  }
  sigset_t blocked = taken_;
  sigaddset(&blocked, SIGPIPE);  // a reader that is gone is told by errno
  if (pthread_sigmask(SIG_BLOCK, &blocked, nullptr) != 0) {
    return ErrnoError(errno, "blocking signals");
  }
  signals_.reset(signalfd(-1, &taken_, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return ErrnoError(errno, "taking signals");
  return absl::OkStatus();
}

bool Foreground::InForeground() const { return tcgetpgrp(STDIN_FILENO) == getpgrp(); }

absl::Status Foreground::PrepareInput() {
  // ENOTTY for a terminal that is not our session's, and for what is none.
  job_control_ = tcgetpgrp(STDIN_FILENO) >= 0;
  if (!job_control_) return absl::OkStatus();
  if (!InForeground()) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe for the input");
    pipe_.reset(ends[0]);
    feed_.reset(ends[1]);
    fcntl(feed_.get(), F_SETFL, O_NONBLOCK);
  }
  struct stat status = {};
  if (fstat(pipe_.valid() ? pipe_.get() : STDIN_FILENO, &status) != 0) {
    return ErrnoError(errno, "looking at standard input");
  }
  input_ = {status.st_dev, status.st_ino};
  return absl::OkStatus();
}

Stdio Foreground::stdio() const {
  Stdio stdio;
  if (options_.terminal) {
    const TerminalSize size = SizeOf(STDIN_FILENO);
    stdio.mode = StdioMode::kTerminal;
    stdio.fds[0] = socket_.workers.get();
    stdio.rows = size.rows;
    stdio.columns = size.columns;
    return stdio;
  }
  const UniqueFd& in = null_.valid() ? null_ : pipe_;
  stdio.mode = in.valid() ? StdioMode::kFds : StdioMode::kInherit;
  stdio.fds = {in.valid() ? in.get() : STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  return stdio;
}

void Foreground::Started() {
  socket_.workers.reset();
  pipe_.reset();
  null_.reset();
}

// Until the next look, in milliseconds; -1: nothing is to be looked for.
int Foreground::NextLookMs() const {
  std::int64_t left = -1;
  if (job_control_ && !InForeground()) left = kLookNs;
  if (kill_at_ns_ > 0) {
    const std::int64_t until = std::max<std::int64_t>(0, kill_at_ns_ - NowNs());
    left = left < 0 ? until : std::min(left, until);
  }
  return left < 0 ? -1 : static_cast<int>(left / 1'000'000);
}

absl::Status Foreground::Watch(int until, const ForegroundActions& actions) {
  while (watching_) {
    const bool relaying = relay_ && relay_->open();
    const bool feeding = feed_.valid() && pending_.empty() && InForeground();
    // A terminal that is gone is told whatever is waited for.
    const bool more = relaying ? !relay_->wants_write() : feeding;
    std::array<pollfd, 6> fds{
        {{until, POLLIN, 0},
         {signals_.get(), POLLIN, 0},
         {master_awaited_ ? socket_.ours.get() : -1, POLLIN, 0},
         {relaying ? relay_->master() : -1,
          static_cast<short>(POLLIN | (relaying && relay_->wants_write() ? POLLOUT : 0)), 0},
         {(raw_ && kill_at_ns_ == 0) || feeding ? STDIN_FILENO : -1,
          static_cast<short>(more ? POLLIN : 0), 0},
         {feed_.valid() ? feed_.get() : -1, static_cast<short>(pending_.empty() ? 0 : POLLOUT),
          0}}};
    if (poll(fds.data(), fds.size(), NextLookMs()) < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, "waiting for the command");
    }
    if (fds[1].revents != 0) TakeSignal(actions);
    if (fds[2].revents != 0) TakeMaster();
    if ((fds[3].revents & POLLOUT) != 0) relay_->ToCommand();
    if ((fds[3].revents & ~POLLOUT) != 0) relay_->FromCommand();
    if (raw_) {
      if (fds[4].revents != 0 && relaying) relay_->FromUser();
      const bool gone = (fds[4].revents & (POLLHUP | POLLERR)) != 0;
      if (kill_at_ns_ == 0 && (gone || (relay_ && relay_->user_gone()))) HangUp(actions);
    } else if (fds[4].revents != 0 || fds[5].revents != 0) {
      if ((fds[5].revents & POLLERR) != 0) feed_.reset();  // nobody reads it any more
      Feed();
    }
    OnTime(actions);
    if (fds[0].revents != 0) break;
  }
  return absl::OkStatus();
}

void Foreground::OnTime(const ForegroundActions& actions) {
  if (kill_at_ns_ > 0 && kill_at_ns_ <= NowNs()) {
    kill_at_ns_ = -1;
    actions.signal({.number = 0});
  }
  if (!job_control_) return;
  if (InForeground()) {
    reads_.reset();
    if (continue_awaited_) Continue(actions);
    return;
  }
  if (reads_) {
    const bool reads = *std::exchange(reads_, std::nullopt);
    if (reads) return Stop(SIGTTIN, actions);
    if (continue_awaited_) {
      continue_awaited_ = false;
      actions.signal({.number = SIGCONT, .group = 1});
    }
  }
  if (std::exchange(asked_, true)) return;
  actions.ask_reads(input_);
}

void Foreground::TellReads(bool reads) {
  asked_ = false;
  reads_ = reads;
}

void Foreground::TakeSignal(const ForegroundActions& actions) {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    const int number = static_cast<int>(info.ssi_signo);
    if (number == SIGWINCH && options_.terminal) {
      if (relay_) relay_->FollowSize();
      continue;
    }
    if (number == SIGCONT) {
      Continue(actions);
      continue;
    }
    const bool ignored = InMask(ignored_, number);
    if (number == SIGTSTP) {
      if (!ignored) Stop(number, actions);
      continue;
    }
    // The terminal's keys are for all of the command, what somebody sends for its first process.
    SignalOrder order = {number, static_cast<std::uint8_t>(info.ssi_code == SI_KERNEL),
                         static_cast<std::uint8_t>(ignored)};
    if (!ignored && requests_.MeansKill(number, NowNs())) order = {.number = 0};
    actions.signal(order);
  }
}

void Foreground::Stop(int number, const ForegroundActions& actions) {
  actions.signal({.number = SIGTSTP, .group = 1});
  if (raw_) raw_->Suspend();
  // Its default action, which is ours: whoever waits for us sees which signal it was.
  struct sigaction before = {};
  struct sigaction defaults = {};
  defaults.sa_handler = SIG_DFL;
  sigaction(number, &defaults, &before);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  sigset_t mask;
  (void)raise(number);
  pthread_sigmask(SIG_UNBLOCK, &only, &mask);  // here we stop, unless nobody could continue us
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  sigaction(number, &before, nullptr);
  sigemptyset(&only);
  sigaddset(&only, SIGCONT);
  const timespec now = {0, 0};
  const bool stopped = sigtimedwait(&only, nullptr, &now) == SIGCONT;
  if (!stopped && number == SIGTTIN) {
    // Of an orphaned process group, which nobody could continue (setpgid(2)): such a read fails.
    // Its pipe is at its end, then; of the terminal it goes on reading.
    feed_.reset();
    job_control_ = false;
  }
  Continue(actions);
}

// In the background one that was reading when it was stopped goes on reading: so it is asked first.
void Foreground::Continue(const ForegroundActions& actions) {
  if (raw_) {
    raw_->Resume();
    if (relay_) relay_->FollowSize();
  }
  if (job_control_ && !InForeground()) {
    reads_.reset();
    continue_awaited_ = true;
    return;
  }
  continue_awaited_ = false;
  actions.signal({.number = SIGCONT, .group = 1});
}

void Foreground::TakeMaster() {
  master_awaited_ = false;
  // Without a master the answer tells why.
  if (absl::StatusOr<UniqueFd> master = socket_.TakeMaster(); master.ok() && kill_at_ns_ == 0) {
    relay_.emplace(*std::move(master), STDIN_FILENO, STDOUT_FILENO);
  }
}

void Foreground::HangUp(const ForegroundActions& actions) {
  kill_at_ns_ = NowNs() + kHangUpGraceNs;
  if (relay_) relay_->HangUp();
  actions.signal({.number = SIGHUP, .group = 1});
}

// What is typed while the command is in the foreground goes to the pipe that it was started with.
void Foreground::Feed() {
  if (!feed_.valid()) return;
  if (pending_.empty()) {
    std::array<char, 4096> buffer;
    const ssize_t got = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) return feed_.reset();
    pending_.assign(buffer.data(), static_cast<std::size_t>(got));
  }
  const ssize_t written = write(feed_.get(), pending_.data(), pending_.size());
  if (written > 0) pending_.erase(0, static_cast<std::size_t>(written));
  if (written < 0 && errno != EAGAIN && errno != EINTR) feed_.reset();
}

void Foreground::Finish() {
  // A command that is over before we have looked may have left all its words in the terminal.
  if (master_awaited_) {
    pollfd waiting{socket_.ours.get(), POLLIN, 0};
    if (poll(&waiting, 1, 0) > 0) TakeMaster();
  }
  if (relay_) relay_->Drain();
}

}  // namespace brood
