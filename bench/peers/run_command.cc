// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/run_command.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <regex>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/launch/reap.h"

namespace brood::bench {
namespace {

constexpr off_t kUtteranceBytes = 65536;
constexpr std::size_t kLastWordsBytes = 400;

// Of one line of a log in key="value" form, what it says.
std::string Said(const std::string& line) {
  static const std::regex kMessage(R"(msg="((?:[^"\\]|\\.)*)\")");
  std::smatch match;
  if (!std::regex_search(line, match, kMessage)) return line;
  static const std::regex kEscape(R"(\\(.))");
  return std::regex_replace(match[1].str(), kEscape, "$1");
}

}  // namespace

absl::StatusOr<Utterance> Utterance::Create() {
  Utterance utterance;
  utterance.fd_.reset(memfd_create("output", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!utterance.fd_.valid()) return ErrnoError(errno, "making a file in memory");
  if (ftruncate(utterance.fd(), kUtteranceBytes) != 0 ||
      fcntl(utterance.fd(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
    return ErrnoError(errno, "sizing a file in memory");
  }
  return utterance;
}

void Utterance::Forget() { lseek(fd(), 0, SEEK_SET); }

std::string Utterance::Text() const {
  // Writers share our offset.
  const off_t end = lseek(fd(), 0, SEEK_CUR);
  if (end <= 0) return {};
  std::string text(static_cast<std::size_t>(end), '\0');
  const ssize_t length = pread(fd(), text.data(), text.size(), 0);
  text.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  return text;
}

absl::StatusOr<pid_t> StartProgram(const std::string& program, const Words& argv, int output) {
  std::vector<char*> words;
  words.reserve(argv.size() + 1);
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  std::array<char, 80> path = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  std::array<char, 16> home = {"HOME=/root"};
  std::array<char, 16> locale = {"LC_ALL=C"};
  char* const environment[] = {path.data(), home.data(), locale.data(), nullptr};

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, 1);
  posix_spawn_file_actions_adddup2(&actions, output, 2);
  // Signals that this program blocks or ignores are its own affair.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t usual;
  sigemptyset(&usual);
  for (const int number : {SIGINT, SIGTERM, SIGPIPE, SIGHUP, SIGCHLD}) sigaddset(&usual, number);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, program.c_str(), &actions, &attributes, words.data(), environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoError(error, "starting {}", program);
  return pid;
}

absl::StatusOr<CommandRunner> CommandRunner::Create() {
  BROOD_ASSIGN_OR_RETURN(Utterance utterance, Utterance::Create());
  return CommandRunner(std::move(utterance));
}

absl::Status CommandRunner::Run(const std::string& program, const Words& argv,
                                std::chrono::milliseconds patience) {
  utterance_.Forget();
  BROOD_ASSIGN_OR_RETURN(const pid_t pid, StartProgram(program, argv, utterance_.fd()));
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    const int error = errno;
    KillAndReap(pid);
    return ErrnoError(error, "opening a pidfd of {}", argv[0]);
  }
  pollfd ended{pidfd.get(), POLLIN, 0};
  const auto ready = TEMP_FAILURE_RETRY(poll(&ended, 1, static_cast<int>(patience.count())));
  if (ready <= 0) {
    const int error = errno;
    KillAndReap(pid);
    if (ready < 0) return ErrnoError(error, "waiting for {}", argv[0]);
    return Error(absl::StatusCode::kDeadlineExceeded,
                 "{} took longer than {} ms and was killed: {}", argv[0], patience.count(),
                 LastWords(Output()));
  }
  BROOD_ASSIGN_OR_RETURN(const Exit exit, Reap(pidfd.get()));
  if (exit.code == CLD_EXITED && exit.status == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "{} {} {}: {}", argv[0],
               exit.code == CLD_EXITED ? "exited with status" : "was ended by signal", exit.status,
               LastWords(Output()));
}

std::string LastWords(const std::string& text) {
  static const std::regex kColours("\x1b\\[[0-9;]*[A-Za-z]");
  const std::string plain = std::regex_replace(text, kColours, "");
  std::string words;
  std::size_t end = plain.size();
  for (int lines = 0; lines < 2 && end > 0;) {
    const std::size_t newline = plain.rfind('\n', end - 1);
    const std::size_t start = newline == std::string::npos ? 0 : newline + 1;
    std::string line = Said(plain.substr(start, end - start));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    if (!line.empty()) {
      if (!words.empty()) line += "; ";
      words.insert(0, line);
      ++lines;
    }
    end = newline == std::string::npos ? 0 : newline;
  }
  if (words.empty()) return "it said nothing";
  if (words.size() > kLastWordsBytes) words = words.substr(0, kLastWordsBytes) + "...";
  return words;
}

}  // namespace brood::bench
