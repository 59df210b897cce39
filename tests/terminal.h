// SPDX-License-Identifier: Apache-2.0

// A program on a pseudo-terminal, with somebody who types and reads.
#pragma once

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <regex>
#include <string>

#include "tests/program.h"

namespace brood {

// A program on a terminal, as somebody sits at one.
class Terminal {
 public:
  explicit Terminal(const Words& arguments) {
    Words words = arguments;
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const winsize size{40, 132, 0, 0};
    int slave = -1;
    int master = -1;
    EXPECT_EQ(openpty(&master, &slave, nullptr, nullptr, &size), 0);
    master_.reset(master);
    slave_.reset(slave);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(slave, F_SETFD, FD_CLOEXEC);
    pid_ = fork();
    if (pid_ != 0) return;
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; ++fd) dup2(slave, fd);
    for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGCHLD}) signal(number, SIG_DFL);
    alarm(static_cast<unsigned>(Patience(std::chrono::seconds(60)).count()));
    execvp(argv[0], argv.data());
    _exit(99);
  }
  ~Terminal() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
  }

  void Type(const std::string& text) const {
    ASSERT_EQ(write(master_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // Reads until `pattern` has come, and returns what has come since the last time.
  std::string Await(const std::string& pattern) {
    const std::regex expression(pattern);
    std::string seen;
    for (int i = 0; i < 2000 * Slowness(); ++i) {
      pollfd waiting{master_.get(), POLLIN, 0};
      if (poll(&waiting, 1, 10) > 0) {
        char buffer[4096];
        const ssize_t got = read(master_.get(), buffer, sizeof(buffer));
        if (got > 0) seen.append(buffer, static_cast<std::size_t>(got));
      }
      if (std::regex_search(seen, expression)) return seen;
    }
    ADD_FAILURE() << "never came: " << pattern << "\nbut: " << seen;
    return seen;
  }
  termios Mode() const {
    termios mode{};
    tcgetattr(slave_.get(), &mode);
    return mode;
  }
  void Resize(std::uint16_t rows, std::uint16_t columns) const {
    const winsize size{rows, columns, 0, 0};
    ioctl(master_.get(), TIOCSWINSZ, &size);
  }
  // The terminal goes away, as when its window is closed or the connection to it breaks.
  void HangUp() {
    slave_.reset();
    master_.reset();
  }
  pid_t pid() const { return pid_; }
  int Wait() {
    int status = -1;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

 private:
  UniqueFd master_;
  UniqueFd slave_;
  pid_t pid_ = -1;
};

// The words of the brood program with these arguments.
inline Words BroodWords(const Words& arguments) { return Words{BROOD_PROGRAM} + arguments; }

}  // namespace brood
