// SPDX-License-Identifier: Apache-2.0

#include "pool/http/connection.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "spawn/base/clock.h"

namespace brood {
namespace {

constexpr std::size_t kMaxInput = 64U << 10;  // bytes read ahead of the parser
constexpr std::chrono::nanoseconds kLinger = std::chrono::seconds(2);
// What a caller who has just come has to begin its request, once no more are taken.
constexpr std::chrono::nanoseconds kLastRequest = std::chrono::seconds(1);

constexpr std::pair<int, std::string_view> kReasons[] = {
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

std::string_view Reason(int status) {
  for (const auto& [code, reason] : kReasons) {
    if (code == status) return reason;
  }
  return "Status";
}

}  // namespace

absl::Status HttpConnection::Open(Handler handler, std::function<void()> closed) {
  handler_ = std::move(handler);
  closed_ = std::move(closed);
  SetPhase(Phase::kHead);
  SetWatches();
  if (!open()) return absl::ResourceExhaustedError("the connection cannot be watched");
  return absl::OkStatus();
}

bool HttpConnection::WasReset() {
  char byte = 0;
  if (open() && recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0) {
    reset_ |= errno == ECONNRESET;
  }
  return reset_;
}

void HttpConnection::Close() {
  if (!open()) return;
  (void)WasReset();
  if (watching_ != 0) pool_.Unwatch(watch_);
  watching_ = 0;
  socket_.reset();
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->OnGone();
  if (const auto closed = std::exchange(closed_, nullptr)) closed();
}

void HttpConnection::SetPhase(Phase phase) {
  phase_ = phase;
  since_ns_ = NowNs();
  const auto after = [this](std::chrono::nanoseconds time) { return since_ns_ + time.count(); };
  const bool unsent = sent_ < output_.size();
  switch (phase) {
    case Phase::kIdle:
      deadline_ns_ = after(unsent ? options_.body_timeout : options_.idle_timeout);
      break;
    case Phase::kHead:
      deadline_ns_ = after(options_.header_timeout);
      break;
    case Phase::kBody:
      deadline_ns_ = after(options_.body_timeout);
      break;
    case Phase::kAnswer:
    case Phase::kTunnel:
      // The function's time, until there is output that nobody takes.
      deadline_ns_ = unsent ? after(options_.body_timeout) : 0;
      break;
    case Phase::kLinger:
      deadline_ns_ = after(unsent ? options_.body_timeout : kLinger);
      break;
  }
}

void HttpConnection::Expire(std::int64_t now_ns) {
  if (!open() || deadline_ns_ == 0 || now_ns < deadline_ns_) return;
  const auto self = shared_from_this();
  const bool unread = sent_ < output_.size();
  // A full exchange is not the caller's slowness: its own timeout ends it.
  if (phase_ == Phase::kBody && !unread && exchange_ && exchange_->full()) {
    SetPhase(Phase::kBody);
    return;
  }
  if (!unread && !begun_ && (phase_ == Phase::kBody || (phase_ == Phase::kHead && !input_.empty())))
    return Refuse(408, "the request did not arrive in time");
  Close();
}

void HttpConnection::Retire() {
  retired_ = true;
  if (phase_ != Phase::kIdle && (phase_ != Phase::kHead || !input_.empty())) return;
  // Who has had an answer may come again elsewhere; who has come to ask is still heard.
  if (served_) return Close();
  deadline_ns_ = std::min(deadline_ns_, NowNs() + kLastRequest.count());
}

HttpConnection::Spare HttpConnection::spare() const {
  if (!open() || sent_ < output_.size()) return Spare::kNo;
  if (phase_ == Phase::kHead) return input_.empty() ? Spare::kIdle : Spare::kSlowHead;
  return phase_ == Phase::kIdle ? Spare::kIdle : Spare::kNo;
}

void HttpConnection::GiveUp() {
  const auto self = shared_from_this();
  if (spare() == Spare::kSlowHead) Refuse(408, "the request did not arrive in time");
  Close();
}

void HttpConnection::OnReadable(short events) {
  const auto self = shared_from_this();
  if ((events & POLLOUT) != 0) Flush();
  if (!open()) return;
  if ((events & (POLLIN | POLLHUP | POLLERR | POLLRDHUP)) == 0) return SetWatches();
  const bool reading = (watching_ & POLLIN) != 0;
  // Whoever stops sending while its call runs has gone, as for other servers: a socket that was
  // closed looks the same as one that was shut half.
  if (!reading) return Close();
  std::array<char, 16384> buffer;
  const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got < 0) reset_ |= errno == ECONNRESET;
  if (got <= 0) return Close();
  if (phase_ == Phase::kLinger) return;  // read, and thrown away
  input_.append(buffer.data(), static_cast<std::size_t>(got));
  if (phase_ == Phase::kIdle) SetPhase(Phase::kHead);
  if (phase_ == Phase::kBody) SetPhase(Phase::kBody);
  Advance();
}

// As far as the input goes: also through requests that were sent ahead.
void HttpConnection::Advance() {
  if (advancing_) return;
  advancing_ = true;
  const auto self = shared_from_this();
  while (open() && phase_ != Phase::kLinger) {
    if (answered_) {
      Ended();
      continue;
    }
    if (phase_ == Phase::kAnswer) break;
    if (exchange_ && exchange_->full()) break;
    if (phase_ == Phase::kTunnel) {
      const std::string bytes = std::exchange(input_, {});
      if (bytes.empty() || !exchange_) break;
      exchange_->OnBody(bytes);
      continue;
    }
    std::string body;
    const std::size_t taken = parser_->Parse(input_, body);
    input_.erase(0, taken);
    if (parser_->error() != 0) {
      Refuse(parser_->error(), parser_->why());
      break;
    }
    if (phase_ != Phase::kBody && parser_->has_head()) {
      TakeHead();
      continue;
    }
    if (phase_ == Phase::kBody && exchange_ && !body.empty()) exchange_->OnBody(body);
    if (open() && phase_ == Phase::kBody && !answered_ && parser_->done()) {
      SetPhase(Phase::kAnswer);
      if (exchange_) exchange_->OnBodyEnd();
      continue;
    }
    if (taken == 0) break;
  }
  advancing_ = false;
  if (!open()) return;
  Flush();
  if (open()) SetWatches();
}

void HttpConnection::TakeHead() {
  const RequestHead& head = parser_->head();
  keep_alive_ = head.keep_alive && !retired_;
  SetPhase(Phase::kBody);
  std::shared_ptr<Exchange> exchange = handler_(*this, head);
  // It may have closed the connection, in what it sent at once, while nobody was told of that.
  if (!open() && exchange) return exchange->OnGone();
  if (!answered_) exchange_ = std::move(exchange);
}

// Nothing that comes behind can be told apart any more.
void HttpConnection::Refuse(int status, std::string_view why) {
  keep_alive_ = false;
  const auto exchange = std::exchange(exchange_, nullptr);
  if (begun_) {
    Abort();
  } else {
    Answer(status, {{"Content-Type", "text/plain"}}, fmt::format("{}\n", why));
  }
  if (exchange) exchange->OnGone();
  if (open() && !advancing_) Advance();
  if (open() && answered_) Ended();
}

// The answer has been queued: the next request, or the end.
void HttpConnection::Ended() {
  served_ = true;
  answered_ = false;
  begun_ = false;
  chunked_ = false;
  bodiless_ = false;
  exchange_.reset();
  if (keep_alive_ && !retired_) {
    parser_ = std::make_unique<HttpParser>();
    SetPhase(input_.empty() ? Phase::kIdle : Phase::kHead);
    return;
  }
  input_.clear();
  SetPhase(Phase::kLinger);
  Flush();
  if (open()) SetWatches();
}

void HttpConnection::Put(const HttpStatus& status, const Fields& fields) {
  // A body that was not read whole would be taken for the next request.
  if (!parser_->done()) keep_alive_ = false;
  output_ += fmt::format("HTTP/1.1 {} {}\r\n", status.code,
                         status.reason.empty() ? Reason(status.code) : status.reason);
  for (const auto& [name, value] : fields) output_ += fmt::format("{}: {}\r\n", name, value);
  if (chunked_) output_ += "Transfer-Encoding: chunked\r\n";
  if (phase_ == Phase::kTunnel) {
    output_ += "Connection: Upgrade\r\n";
  } else if (!keep_alive_) {
    output_ += "Connection: close\r\n";
  } else if (parser_->head().version == 10) {
    output_ += "Connection: keep-alive\r\n";
  }
  output_ += "\r\n";
}

void HttpConnection::Answer(HttpStatus status, Fields fields, std::string_view body) {
  if (!open() || answered_) return;
  // What a GET would get has its length told there.
  const bool to_head = parser_->head().method == "HEAD";
  if (status.has_body() && (!to_head || FindField(fields, "Content-Length").empty())) {
    fields.emplace_back("Content-Length", fmt::to_string(body.size()));
  }
  Put(status, fields);
  if (status.has_body() && !to_head) output_ += body;
  begun_ = answered_ = true;
  Advance();
}

void HttpConnection::Begin(HttpStatus status, Fields fields, std::optional<std::uint64_t> length) {
  if (!open()) return;
  bodiless_ = !status.has_body() || parser_->head().method == "HEAD";
  chunked_ = !length && !bodiless_ && parser_->head().version == 11;
  if (!length && !bodiless_ && !chunked_) keep_alive_ = false;
  if (length && status.has_body()) {
    fields.emplace_back("Content-Length", fmt::to_string(*length));
  }
  Put(status, fields);
  begun_ = true;
}

bool HttpConnection::Upgrade(const Fields& fields) {
  if (!open()) return false;
  keep_alive_ = false;
  SetPhase(Phase::kTunnel);
  Put(101, fields);
  begun_ = true;
  return true;
}

std::string HttpConnection::peer() const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  char text[INET6_ADDRSTRLEN] = "";
  if (getpeername(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  const auto* const v4 = reinterpret_cast<const sockaddr_in*>(&address);
  const auto* const v6 = reinterpret_cast<const sockaddr_in6*>(&address);
  if (address.ss_family == AF_INET) inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
  if (address.ss_family == AF_INET6) inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
  return text;
}

void HttpConnection::Write(std::string_view bytes) {
  const auto self = shared_from_this();
  if (!open()) return;
  const bool chunk = chunked_ && !bytes.empty();
  if (chunk) output_ += fmt::format("{:x}\r\n", bytes.size());
  if (!bodiless_) output_ += bytes;
  if (chunk) output_ += "\r\n";
  Flush();
  if (open()) SetWatches();
}

void HttpConnection::Finish(const Fields& trailer) {
  const auto self = shared_from_this();
  if (!open()) return;
  if (chunked_) {
    output_ += "0\r\n";
    for (const auto& [name, value] : trailer) output_ += fmt::format("{}: {}\r\n", name, value);
    output_ += "\r\n";
  }
  answered_ = true;
  Advance();
}

void HttpConnection::Abort() {
  const auto self = shared_from_this();
  if (!open()) return;
  exchange_.reset();  // it knows
  if (chunked_) {
    // The last chunk is missing, which tells. Answers to earlier requests may still be on their
    // way.
    input_.clear();
    SetPhase(Phase::kLinger);
    Flush();
    if (open()) SetWatches();
    return;
  }
  // A reset, since to HTTP/1.0 an orderly end would be the body's.
  const linger now{1, 0};
  setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  Close();
}

void HttpConnection::Continue() {
  const auto self = shared_from_this();
  if (!open() || begun_ || parser_->done() || parser_->head().version != 11) return;
  output_ += "HTTP/1.1 100 Continue\r\n\r\n";
  if (phase_ == Phase::kBody) SetPhase(Phase::kBody);
  Flush();
}

void HttpConnection::Resume() {
  if (!open() || advancing_) return;
  if (phase_ == Phase::kBody) SetPhase(Phase::kBody);
  Advance();
}

void HttpConnection::Flush() {
  const auto self = shared_from_this();
  const bool was_congested = congested();
  bool progress = false;
  while (sent_ < output_.size()) {
    const ssize_t count = send(socket_.get(), output_.data() + sent_, output_.size() - sent_,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) return Close();
    sent_ += static_cast<std::size_t>(count);
    progress = true;
  }
  const bool unsent = sent_ < output_.size();
  if (!unsent) {
    output_.clear();
    sent_ = 0;
    // Thousands of connections may be idle.
    if (output_.capacity() > kMaxInput) output_.shrink_to_fit();
  }
  // Whoever still reads has time, also when the function has long ended.
  const bool receiving = phase_ == Phase::kHead || phase_ == Phase::kBody;
  if (!receiving && (progress || (unsent && deadline_ns_ == 0))) SetPhase(phase_);
  if (!unsent) {
    if (phase_ == Phase::kLinger) shutdown(socket_.get(), SHUT_WR);
  } else if (sent_ > kHighWater) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
  if (was_congested && !congested() && exchange_) exchange_->OnDrained();
}

void HttpConnection::SetWatches() {
  const auto held = shared_from_this();
  short wanted = POLLRDHUP;
  const bool full = exchange_ && exchange_->full();
  // Requests sent ahead stay in the socket until their turn.
  if (phase_ != Phase::kAnswer && !full && input_.size() < kMaxInput &&
      (phase_ != Phase::kIdle || !congested())) {
    wanted |= POLLIN;
  }
  if (sent_ < output_.size()) wanted |= POLLOUT;
  if (wanted == watching_) return;
  if (watching_ != 0) pool_.Unwatch(watch_);
  watching_ = 0;
  const auto watch = pool_.Watch(socket_.get(), wanted, [weak = weak_from_this()](short events) {
    if (const auto self = weak.lock(); self && self->open()) self->OnReadable(events);
  });
  if (!watch.ok()) return Close();
  watch_ = *watch;
  watching_ = wanted;
}

}  // namespace brood
