// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include "spawn/base/fd_message.h"
#include "spawn/base/status.h"

namespace brood {

std::string Printable(std::string text, std::size_t width) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  }
  if (text.size() > width) text = text.substr(0, width - 3) + "...";
  return text;
}

TerminalSize SizeOf(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_row, size.ws_col};
}

struct RawTerminal::Saved {
  termios mode{};
  termios raw{};
};

namespace {

// Waits until the process that holds the pipe's other end is done with the terminal (a byte) or
// dead (none). In a session of its own: a signal for the user's process group must not end it, and
// a background process may not change a terminal that is its session's.
[[noreturn]] void Guard(int pipe_end, int terminal, const termios& mode) {
  setsid();
  for (int signal = 1; signal < NSIG; ++signal) (void)std::signal(signal, SIG_IGN);
  prctl(PR_SET_NAME, "brood-terminal");
  if (terminal != 3) dup2(terminal, 3);
  const int end = fcntl(pipe_end, F_DUPFD, 10);
  dup2(end, 4);
  for (const int fd : {0, 1, 2}) close(fd);
  close_range(5, ~0U, 0);
  char byte = 0;
  ssize_t got = 0;
  do {
    got = read(4, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) tcsetattr(3, TCSANOW, &mode);
  _exit(0);
}

// False when nobody reads it any more.
bool WriteAll(int fd, const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t written = write(fd, bytes, count);
    if (written < 0 && errno == EAGAIN) {
      pollfd waiting{fd, POLLOUT, 0};
      poll(&waiting, 1, -1);
    } else if (written < 0 && errno != EINTR) {
      return false;
    } else if (written > 0) {
      bytes += written;
      count -= static_cast<std::size_t>(written);
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RawTerminal>> RawTerminal::Enter(int fd) {
  std::unique_ptr<RawTerminal> out(new RawTerminal);
  out->saved_ = std::make_unique<Saved>();
  if (tcgetattr(fd, &out->saved_->mode) != 0) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "standard input is not a terminal, which -t needs: leave out -t");
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  UniqueFd theirs(ends[0]);
  UniqueFd guard(ends[1]);
  const pid_t guardian = fork();
  if (guardian < 0) return ErrnoError(errno, "forking the terminal's guardian");
  if (guardian == 0) {
    guard.reset();
    Guard(theirs.get(), fd, out->saved_->mode);
  }
  out->fd_ = fd;
  out->guard_ = std::move(guard);
  out->guardian_ = guardian;
  out->saved_->raw = out->saved_->mode;
  cfmakeraw(&out->saved_->raw);
  if (tcsetattr(fd, TCSANOW, &out->saved_->raw) != 0)
    return ErrnoError(errno, "making the terminal raw");
  return out;
}

void RawTerminal::Suspend() { tcsetattr(fd_, TCSADRAIN, &saved_->mode); }
void RawTerminal::Resume() { tcsetattr(fd_, TCSADRAIN, &saved_->raw); }

RawTerminal::~RawTerminal() {
  if (guardian_ < 0) return;
  tcsetattr(fd_, TCSADRAIN, &saved_->mode);
  const char done = 1;
  (void)!write(guard_.get(), &done, 1);
  guard_.reset();
  waitpid(guardian_, nullptr, 0);
}

absl::StatusOr<TerminalSocket> TerminalSocket::Make() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "making a socket for the terminal");
  }
  return TerminalSocket{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

absl::StatusOr<UniqueFd> TerminalSocket::TakeMaster() const {
  char byte = 0;
  ReceivedFds<1> received;
  if (ReceiveWithFds(ours.get(), &byte, 1, received, 0) != 1 || received.count == 0) {
    return Error(absl::StatusCode::kUnavailable, "the command never got its terminal");
  }
  return UniqueFd(received.fds[0]);
}

TerminalRelay::TerminalRelay(UniqueFd master, int in, int out)
    : master_(std::move(master)), in_(in), out_(out) {
  fcntl(master_.get(), F_SETFL, O_RDWR | O_NONBLOCK);
  FollowSize();
}

void TerminalRelay::FromUser() {
  std::array<char, 4096> buffer;
  const ssize_t got = read(in_, buffer.data(), buffer.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    user_gone_ = true;
    return;
  }
  pending_.append(buffer.data(), static_cast<std::size_t>(got));
  ToCommand();
}

void TerminalRelay::ToCommand() {
  if (!master_.valid()) {
    pending_.clear();
    return;
  }
  const ssize_t written = write(master_.get(), pending_.data(), pending_.size());
  if (written > 0) pending_.erase(0, static_cast<std::size_t>(written));
  if (written < 0 && errno != EAGAIN && errno != EINTR) pending_.clear();
}

void TerminalRelay::FromCommand() {
  std::array<char, 16384> buffer;
  const ssize_t got = read(master_.get(), buffer.data(), buffer.size());
  if (got > 0) {
    if (!WriteAll(out_, buffer.data(), static_cast<std::size_t>(got))) user_gone_ = true;
  } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
    master_.reset();  // EIO: nobody has the other side open any more
  }
}

void TerminalRelay::FollowSize() {
  const TerminalSize size = SizeOf(in_);
  if (size.rows == 0 || !master_.valid()) return;
  winsize set{size.rows, size.columns, 0, 0};
  ioctl(master_.get(), TIOCSWINSZ, &set);
}

void TerminalRelay::Drain() {
  while (master_.valid()) {
    pollfd waiting{master_.get(), POLLIN, 0};
    if (poll(&waiting, 1, 0) <= 0 || waiting.revents == 0) return;
    FromCommand();
  }
}

}  // namespace brood
