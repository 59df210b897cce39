// SPDX-License-Identifier: Apache-2.0

// The brood program, run as its users do, with what it writes kept in memory.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "spawn/base/text_file.h"
#include "spawn/base/unique_fd.h"
#include "tests/slowness.h"

namespace brood {

using Words = std::vector<std::string>;

// A hang is ended by this; no test expects to come near it.
inline constexpr std::chrono::seconds kHangGuard{30};

inline std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  off_t at = 0;
  for (ssize_t n = 0; (n = pread(fd, buffer, sizeof(buffer), at)) > 0; at += n) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

inline std::string ReadText(const std::filesystem::path& path) { return TextOf(path); }

// A brood program on its way. What it writes is kept in memory files, which nothing can block.
class Brood {
 public:
  // `before_exec` runs in the new process, with descriptors 0 to 2 in place.
  explicit Brood(
      const Words& arguments, const std::function<void()>& before_exec = [] {})
      : out_(memfd_create("stdout", MFD_CLOEXEC)), err_(memfd_create("stderr", MFD_CLOEXEC)) {
    Words words = {BROOD_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ != 0) return;
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, 0);
    dup2(out_.get(), 1);
    dup2(err_.get(), 2);
    // A shell's background jobs, and so perhaps these tests, ignore some.
    for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGCHLD}) signal(number, SIG_DFL);
    alarm(static_cast<unsigned>(Patience(kHangGuard).count()));
    before_exec();
    execv(BROOD_PROGRAM, argv.data());
    _exit(99);
  }
  ~Brood() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    Wait();
  }
  Brood(const Brood&) = delete;
  Brood& operator=(const Brood&) = delete;

  pid_t pid() const { return pid_; }
  void Kill(int number) const { kill(pid_, number); }

  // Its exit status, or 1000 and the signal that ended it.
  int Wait() {
    int status = -1;
    EXPECT_EQ(TEMP_FAILURE_RETRY(waitpid(pid_, &status, 0)), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  bool Ended() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid_;
  }

  std::string out() const { return ReadAll(out_.get()); }
  std::string err() const { return ReadAll(err_.get()); }

  // Waits until the command has written `text`.
  void AwaitOutput(std::string_view text) const {
    while (out().find(text) == std::string::npos) {
      ASSERT_FALSE(Ended()) << "it ended: " << err();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

 private:
  UniqueFd out_;
  UniqueFd err_;
  pid_t pid_ = -1;
};

inline Words operator+(Words left, const Words& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline Words Shell(std::string_view script) { return {"--", "/bin/sh", "-c", std::string(script)}; }

}  // namespace brood
