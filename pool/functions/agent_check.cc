// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/agent_check.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

namespace brood {
namespace {

// HAProxy sends a name with the connection, or nothing ever.
constexpr auto kNameComesWithin = std::chrono::milliseconds(20);
constexpr std::size_t kMostAsked = 128;  // bytes

}  // namespace

absl::Status AgentCheck::Open(UniqueFd socket) {
  socket_ = std::move(socket);
  return watch_.Start(socket_.get(), POLLIN, [this](short) { Accept(); });
}

void AgentCheck::Close() {
  watch_.Stop();
  socket_.reset();
  for (Asker& each : askers_) {
    timers_.Cancel(each.patience);
    each.watch.Stop();
  }
  askers_.clear();
}

void AgentCheck::Accept() {
  for (int i = 0; i < 16; ++i) {
    UniqueFd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      // Left alone, the connection would make the socket readable for ever.
      if (errno == EMFILE || errno == ENFILE) poll(nullptr, 0, 1);
      return;
    }
    if (askers_.size() >= kMostAskers) continue;
    const Place asker = askers_.emplace(askers_.end(), pool_);
    asker->socket = std::move(socket);
    asker->patience = timers_.Add(kNameComesWithin, [this, asker] { Answer(asker); });
    (void)asker->watch.Start(asker->socket.get(), POLLIN, [this, asker](short) { Read(asker); });
  }
}

void AgentCheck::Read(Place asker) {
  std::array<char, kMostAsked> bytes;
  const ssize_t got = recv(asker->socket.get(), bytes.data(), bytes.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0) asker->asked.append(bytes.data(), static_cast<std::size_t>(got));
  const bool whole = asker->asked.find('\n') != std::string::npos;
  if (got > 0 && !whole && asker->asked.size() < kMostAsked) return;
  timers_.Cancel(asker->patience);
  Answer(asker);
}

void AgentCheck::Answer(Place asker) {
  asker->watch.Stop();
  std::string function = asker->asked.substr(0, asker->asked.find('\n'));
  if (function.ends_with('\r')) function.pop_back();
  const std::string line = tell_(function) + "\n";
  (void)send(asker->socket.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  askers_.erase(asker);
}

}  // namespace brood
