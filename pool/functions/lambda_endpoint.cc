// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/lambda_endpoint.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "spawn/base/clock.h"
#include "spawn/base/fd_message.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr auto kEndpointSweep = std::chrono::seconds(1);
constexpr auto kRetryAccept = std::chrono::milliseconds(100);

// A runtime may wait for its call, and stream its response, for as long as its isolate lives.
const HttpOptions& NoDeadlines() {
  static const HttpOptions* const options = [] {
    auto* const made = new HttpOptions;
    made->header_timeout = made->body_timeout = made->idle_timeout = std::chrono::hours(24 * 3650);
    return made;
  }();
  return *options;
}

}  // namespace

absl::Status LambdaEndpoint::Open(Stdio& stdio, HttpConnection::Handler handler,
                                  std::function<void()> flooded) {
  handler_ = std::move(handler);
  flooded_ = std::move(flooded);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "making the channel for a runtime's endpoint");
  }
  channel_.reset(ends[0]);
  workers_channel_.reset(ends[1]);
  BROOD_RETURN_IF_ERROR(
      channel_watch_.Start(channel_.get(), POLLIN, [weak = weak_from_this()](short) {
        if (const auto self = weak.lock()) self->TakeListener();
      }));
  stdio.mode = StdioMode::kEndpoint;
  stdio.fds[0] = workers_channel_.get();
  stdio.port = kPort;
  return absl::OkStatus();
}

void LambdaEndpoint::Close() {
  channel_watch_.Stop();
  channel_.reset();
  workers_channel_.reset();
  WatchListener(false);
  listener_.reset();
  if (sweep_) timers_.Cancel(*sweep_);
  sweep_.reset();
  for (const auto& [raw, connection] : std::exchange(connections_, {})) connection->Close();
}

// The worker sends it before it execs, so both ends have served. Without a listener it came to
// nothing, which its outcome tells.
void LambdaEndpoint::TakeListener() {
  char byte = 0;
  ReceivedFds<1> received;
  if (ReceiveWithFds(channel_.get(), &byte, 1, received, MSG_DONTWAIT) > 0 && received.count == 1) {
    listener_.reset(received.fds[0]);
  }
  channel_watch_.Stop();
  channel_.reset();
  workers_channel_.reset();
  if (listener_.valid()) WatchListener(true);
}

void LambdaEndpoint::WatchListener(bool on) {
  if (!on) return listener_watch_.Stop();
  if (!listener_.valid()) return;
  (void)listener_watch_.Start(listener_.get(), POLLIN, [weak = weak_from_this()](short) {
    if (const auto self = weak.lock()) self->Accept();
  });
}

// Whoever opens a connection for each call has one that it needs no more.
bool LambdaEndpoint::MakeRoom() {
  std::shared_ptr<HttpConnection> idlest;
  for (const auto& [raw, connection] : connections_) {
    if (connection->spare() != HttpConnection::Spare::kIdle) continue;
    if (idlest == nullptr || connection->since_ns() < idlest->since_ns()) idlest = connection;
  }
  if (idlest == nullptr) return false;
  idlest->GiveUp();
  return connections_.size() < kMaxConnections;
}

// Beyond the most there may be, the others wait in the kernel's queue, which is bounded, too.
void LambdaEndpoint::Accept() {
  while (listener_.valid() && (connections_.size() < kMaxConnections || MakeRoom())) {
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      if (Adopt(std::move(socket))) continue;
      WatchListener(false);
      listener_.reset();
      return;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      WatchListener(false);
      timers_.Add(kRetryAccept, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->WatchListener(true);
      });
    }
    return;
  }
  WatchListener(false);
}

// False when there have been too many.
bool LambdaEndpoint::Adopt(UniqueFd socket) {
  if (!Spend()) return false;
  const int on = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  auto connection = std::make_shared<HttpConnection>(pool_, NoDeadlines(), std::move(socket));
  HttpConnection* const raw = connection.get();
  connections_.emplace(raw, connection);
  const auto handle = [weak = weak_from_this()](HttpConnection& from, const RequestHead& head) {
    const auto self = weak.lock();
    return self && self->Spend() ? self->handler_(from, head) : nullptr;
  };
  (void)connection->Open(handle, [weak = weak_from_this(), raw] {
    const auto self = weak.lock();
    if (!self) return;
    self->connections_.erase(raw);
    self->WatchListener(true);
  });
  return true;
}

// A bucket that leaks: `spent_until_ns_` lies at most kBurst steps ahead.
bool LambdaEndpoint::Spend() {
  const std::int64_t now = NowNs();
  spent_until_ns_ = std::max(spent_until_ns_, now) + kEachNs;
  if (spent_until_ns_ > now + kBurst * kEachNs) {
    if (const auto flooded = std::exchange(flooded_, nullptr)) flooded();
    return false;
  }
  if (!sweep_) {
    sweep_ = timers_.Add(kEndpointSweep, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->Sweep();
    });
  }
  return true;
}

// For connections that are only read to their end, which may never come. There is nothing to look
// for while all of them wait for an answer, as that of a primed isolate does.
void LambdaEndpoint::Sweep() {
  sweep_.reset();
  const std::int64_t now = NowNs();
  std::vector<std::shared_ptr<HttpConnection>> all;
  for (const auto& [raw, connection] : connections_) all.push_back(connection);
  for (const auto& connection : all) connection->Expire(now);
  const bool quiet = std::all_of(connections_.begin(), connections_.end(),
                                 [](const auto& each) { return each.second->answering(); });
  if (quiet) return;
  sweep_ = timers_.Add(kEndpointSweep, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Sweep();
  });
}

}  // namespace brood
