// SPDX-License-Identifier: Apache-2.0

#include "pool/http/upstream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace brood {
namespace {

constexpr std::size_t kPiece = 65536;  // bytes read at once
constexpr int kPieces = 4;             // in a row; others wait for this thread, too

}  // namespace

void HttpUpstream::Open() {
  if (!connected_) return Connect();
  SetWatch();
}

// Over loopback the server's side of a connection is there, or refused, within the call: but a
// non-blocking one hears of it by asking again.
void HttpUpstream::Connect() {
  const auto self = shared_from_this();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port_);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // A body behind its head would wait for that to be acknowledged, which the other end puts off.
  const int on = 1;
  setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  for (int asked = 0; asked < 2; ++asked) {
    if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
        errno == EISCONN) {
      connected_ = true;
      Flush();
      if (user_ != nullptr) user_->OnConnected();
      return;
    }
    if (errno != EINPROGRESS && errno != EALREADY && errno != EINTR) {
      return Break(std::strerror(errno));
    }
  }
  SetWatch();
}

void HttpUpstream::OnReady(short events) {
  const auto self = shared_from_this();
  if (!connected_) return Connect();
  if ((events & POLLOUT) != 0) Flush();
  if (user_ != nullptr && !paused_ && (events & (POLLIN | POLLHUP | POLLERR)) != 0) Read();
  if (user_ != nullptr) SetWatch();
}

void HttpUpstream::Write(std::string_view bytes) {
  output_ += bytes;
  if (connected_) Flush();
}

void HttpUpstream::Flush() {
  const auto self = shared_from_this();
  const bool was_congested = congested();
  while (sent_ < output_.size()) {
    const ssize_t count = send(socket_.get(), output_.data() + sent_, output_.size() - sent_,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {  // an answer may have come all the same
      sent_ = output_.size();
      break;
    }
    sent_any_ = true;
    sent_ += static_cast<std::size_t>(count);
  }
  if (sent_ == output_.size() || sent_ > kHighWater) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
  SetWatch();
  if (user_ != nullptr && was_congested && !congested()) user_->OnRoom();
}

void HttpUpstream::SetPaused(bool paused) {
  if (paused_ == paused || user_ == nullptr) return;
  paused_ = paused;
  SetWatch();
}

void HttpUpstream::Read() {
  if (reading_) return;
  const auto self = shared_from_this();
  reading_ = true;
  for (int pieces = 0; pieces < kPieces && user_ != nullptr && !paused_; ++pieces) {
    std::array<char, kPiece> buffer;
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got <= 0) {
      const int error = got < 0 ? errno : 0;
      if (got == 0 && !tunnel_) parser_.OnEnd();
      if (got == 0 && (tunnel_ || parser_.done())) {
        Take();
      } else {
        Break(error != 0 ? std::strerror(error) : "it closed its connection");
      }
      break;
    }
    input_.append(buffer.data(), static_cast<std::size_t>(got));
    if (!Take() || static_cast<std::size_t>(got) < buffer.size()) break;
  }
  reading_ = false;
}

// False when nothing more is to be read.
bool HttpUpstream::Take() {
  if (told_done_ || user_ == nullptr) return false;
  std::string body;
  if (tunnel_) {
    body = std::exchange(input_, {});
    told_done_ = body.empty();
  } else {
    // The head first, and then what has come of its body.
    for (std::size_t taken = 1; taken != 0 && !parser_.done();) {
      taken = parser_.Parse(input_, body);
      input_.erase(0, taken);
    }
    if (!parser_.error().empty()) {
      Break("its answer is not HTTP: " + parser_.error());
      return false;
    }
    if (!parser_.has_head()) return true;
    told_done_ = parser_.done() && parser_.head().status != 101;
  }
  user_->OnAnswer(parser_.head(), body, told_done_);
  if (user_ != nullptr && tunnel_ && !input_.empty()) return Take();
  return !told_done_;
}

void HttpUpstream::Break(const std::string& why) {
  StopWatching();
  if (User* const user = std::exchange(user_, nullptr)) user->OnBroken(why, sent_any_);
}

UniqueFd HttpUpstream::Release() {
  StopWatching();
  user_ = nullptr;
  return std::move(socket_);
}

bool HttpUpstream::reusable() const {
  return connected_ && !tunnel_ && parser_.done() && parser_.head().keep_alive && input_.empty() &&
         sent_ == output_.size();
}

void HttpUpstream::SetWatch() {
  if (user_ == nullptr || !socket_.valid()) return;
  short wanted = 0;
  if (!connected_ || sent_ < output_.size()) wanted |= POLLOUT;
  if (connected_ && !paused_) wanted |= POLLIN;
  if (wanted == watching_) return;
  StopWatching();
  if (wanted == 0) return;
  const auto watch = pool_.Watch(socket_.get(), wanted, [weak = weak_from_this()](short events) {
    if (const auto self = weak.lock(); self && self->user_ != nullptr) self->OnReady(events);
  });
  if (!watch.ok()) return Break("it cannot be waited for");
  watch_ = *watch;
  watching_ = wanted;
}

void HttpUpstream::StopWatching() {
  if (watching_ != 0) pool_.Unwatch(watch_);
  watching_ = 0;
}

}  // namespace brood
