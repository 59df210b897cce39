// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/service.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "spawn/base/status.h"
#include "spawn/launch/reap.h"

namespace brood::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

}  // namespace

absl::StatusOr<UniqueFd> ConnectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return InvalidError("the socket's path {} is too long", path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoError(errno, "making a socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoError(errno, "connecting to {}", path);
  }
  return fd;
}

absl::StatusOr<Service> Service::Start(const std::string& program, const Words& argv,
                                       const std::string& socket) {
  BROOD_ASSIGN_OR_RETURN(Utterance utterance, Utterance::Create());
  BROOD_ASSIGN_OR_RETURN(const pid_t pid, StartProgram(program, argv, utterance.fd()));
  Service service(pid, std::move(utterance));
  const auto deadline = steady_clock::now() + seconds(20);
  while (!ConnectTo(socket).ok()) {
    if (HasEnded(pid)) {
      return Error(absl::StatusCode::kFailedPrecondition, "{} ended at once: {}", argv[0],
                   LastWords(service.utterance_.Text()));
    }
    if (steady_clock::now() > deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded, "{} was not ready within 20 seconds: {}",
                   argv[0], LastWords(service.utterance_.Text()));
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return service;
}

void Service::Stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  const auto deadline = steady_clock::now() + seconds(10);
  while (!HasEnded(pid_) && steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  KillAndReap(pid_);
  pid_ = -1;
}

}  // namespace brood::bench
