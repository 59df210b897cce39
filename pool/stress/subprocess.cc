// SPDX-License-Identifier: Apache-2.0

#include "pool/stress/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include "pool/stress/leftovers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood::limits {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t interrupted = 0;
void NoteSignal(int signal) { interrupted = signal; }

[[noreturn]] void Answer(const std::function<absl::StatusOr<Json>()>& work, int out, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  absl::StatusOr<Json> result = work();
  Json answer;
  if (result.ok()) {
    answer["result"] = *std::move(result);
  } else {
    answer["code"] = static_cast<int>(result.status().code());
    answer["error"] = Message(result.status());
  }
  const std::string text = answer.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = write(out, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  _exit(0);
}

absl::StatusOr<std::string> ReadUntilEnd(int from, Clock::time_point deadline) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    if (interrupted != 0) return Error(absl::StatusCode::kCancelled, "interrupted");
    if (Clock::now() > deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded, "the budget is used up, and nothing ended");
    }
    pollfd wait{from, POLLIN, 0};
    if (poll(&wait, 1, 50) <= 0) continue;
    const ssize_t n = read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

absl::StatusOr<Json> RunInSubprocess(std::chrono::seconds patience,
                                     const std::function<absl::StatusOr<Json>()>& work) {
  struct sigaction action {};
  action.sa_handler = NoteSignal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  BROOD_RETURN_IF_ERROR(ClearLeftovers());
  BROOD_ASSIGN_OR_RETURN(const Guardian guardian, Guardian::Hire());
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "forking a process that pushes");
  if (pid == 0) Answer(work, to.get(), parent);
  to.reset();
  absl::StatusOr<std::string> text = ReadUntilEnd(from.get(), Clock::now() + patience);
  if (!text.ok()) kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  const absl::Status cleared = ClearOwn();
  if (!text.ok()) return text.status();
  const Json answer = Json::parse(*text, nullptr, false);
  if (answer.is_discarded() || answer.empty()) {
    return Error(absl::StatusCode::kAborted, "the process that pushed was killed");
  }
  if (answer.contains("error")) {
    return Error(static_cast<absl::StatusCode>(answer["code"].get<int>()), "{}",
                 answer["error"].get<std::string>());
  }
  BROOD_RETURN_IF_ERROR(cleared);
  return answer["result"];
}

absl::StatusOr<Json> RunInSubprocess(std::string_view unit, std::chrono::seconds patience,
                                     const std::function<absl::StatusOr<Json>(const Unit&)>& work) {
  const Unit* const found = FindUnit(unit);
  if (found == nullptr) {
    return Error(absl::StatusCode::kNotFound, "there is no limit called {}; see --list", unit);
  }
  absl::StatusOr<Json> result = RunInSubprocess(patience, [&] { return work(*found); });
  if (result.ok()) return result;
  return Error(result.status().code(), "{}: {}", unit, Message(result.status()));
}

}  // namespace brood::limits
