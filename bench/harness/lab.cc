// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/lab.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/launch/reap.h"

namespace brood::bench {
namespace {

struct Order {
  std::int32_t warm_ups;
  std::int32_t iterations;
};

// A number of bytes, then as many. False when the other end is gone.
bool SendText(int fd, const std::string& text) {
  const auto length = static_cast<std::uint32_t>(text.size());
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += text;
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    sent += static_cast<std::size_t>(count);
  }
  return true;
}

bool ReceiveBytes(int fd, void* to, std::size_t size) {
  auto* at = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t count = recv(fd, at, size, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    at += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

nlohmann::json AnswerOf(const absl::Status& status, const Series& series) {
  if (status.ok()) return {{"values", series}};
  return {{"code", static_cast<int>(status.code())}, {"error", std::string(Message(status))}};
}

// One answer to the set-up, then one to each order.
[[noreturn]] void Serve(int fd, const Lab::SetUp& set_up, const Lab::Body& body) {
  const absl::Status ready = set_up ? set_up() : absl::OkStatus();
  if (!SendText(fd, AnswerOf(ready, {}).dump()) || !ready.ok()) _exit(0);
  for (Order order{}; ReceiveBytes(fd, &order, sizeof(order));) {
    Series series;
    const absl::Status measured = body(order.warm_ups, order.iterations, series);
    if (!SendText(fd, AnswerOf(measured, series).dump())) break;
  }
  _exit(0);
}

absl::StatusOr<Series> ReceiveAnswer(int fd) {
  std::uint32_t length = 0;
  std::string text;
  if (ReceiveBytes(fd, &length, sizeof(length))) {
    text.resize(length);
    if (!ReceiveBytes(fd, text.data(), length)) text.clear();
  }
  const auto answer = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object()) {
    return Error(absl::StatusCode::kInternal, "the process to measure in has ended by itself");
  }
  if (answer.contains("values")) return answer["values"].get<Series>();
  return absl::Status(static_cast<absl::StatusCode>(answer.value("code", 2)),
                      answer.value("error", "failed"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Lab>> Lab::Start(const SetUp& set_up, const Body& body) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return ErrnoError(errno, "making a socket to a process to measure in");
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "forking a process to measure in");
  if (pid == 0) {
    // A run that is killed leaves none of these behind.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    // A terminal's ^C is for the run, which then ends this one.
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    ours.reset();
    Serve(theirs.get(), set_up, body);
  }
  std::unique_ptr<Lab> lab(new Lab(pid, std::move(ours)));
  theirs.reset();
  BROOD_RETURN_IF_ERROR(ReceiveAnswer(lab->socket_.get()).status());
  return lab;
}

Lab::~Lab() { KillAndReap(pid_); }

absl::StatusOr<Series> Lab::Run(int warm_ups, int iterations) {
  const Order order{warm_ups, iterations};
  if (send(socket_.get(), &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order)) {
    return ErrnoError(errno, "asking a process to measure");
  }
  return ReceiveAnswer(socket_.get());
}

Row LabRow(std::string name, Lab::SetUp set_up, Lab::Body body) {
  Row row;
  row.name = std::move(name);
  row.run = [set_up = std::move(set_up), body = std::move(body),
             lab = std::make_shared<std::unique_ptr<Lab>>()](benchmark::State& state,
                                                             Samples& samples) {
    if (*lab == nullptr) {
      absl::StatusOr<std::unique_ptr<Lab>> started = Lab::Start(set_up, body);
      if (!started.ok()) return Fail(state, started.status());
      *lab = *std::move(started);
    }
    absl::StatusOr<Series> series =
        (*lab)->Run(samples.warm_ups(), static_cast<int>(state.max_iterations));
    if (!series.ok()) {
      lab->reset();  // it may be the worse for it
      return Fail(state, series.status());
    }
    samples.Take(state, *std::move(series));
  };
  return row;
}

Row LabRow(std::string name, Lab::SetUp set_up, Once once) {
  return LabRow(std::move(name), std::move(set_up),
                [once = std::move(once)](int warm_ups, int iterations, Series& series) {
                  return MeasureEach(warm_ups, iterations, once, series);
                });
}

}  // namespace brood::bench
