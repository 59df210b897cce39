// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/http_runtime.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "spawn/base/clock.h"
#include "spawn/base/fd_message.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// A server closes connections that nobody uses, in Node.js after five seconds: a request that
// crosses that would be lost, so ours are closed sooner.
constexpr std::int64_t kKeepNs = 2'000'000'000;
// What it has to close its side of a connection that we have closed.
constexpr std::int64_t kCloseNs = 1'000'000'000;
constexpr auto kSweep = std::chrono::milliseconds(500);
constexpr auto kLongestPause = std::chrono::milliseconds(20);

// Neither closed by the other side, nor with bytes that belong to no exchange.
bool IsQuiet(int socket) {
  char byte = 0;
  return recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

}  // namespace

absl::Status FitHttp(const Spec& spec, FunctionOptions& options) {
  if (!spec.is_new(NamespaceKind::kNet)) {
    return InvalidError(
        "runtime = \"http\" needs a network namespace of its own, since what it listens on could "
        "be reached, or be taken, by whoever shares it; leave out net");
  }
  std::vector<std::string>& env = options.command.env;
  std::erase_if(env, [](const std::string& entry) { return entry.starts_with("PORT="); });
  env.push_back(fmt::format("PORT={}", options.port));
  return absl::OkStatus();
}

// Whether it is ready: connects, and asks for the path that tells, if there is one.
class HttpRuntime::Probe : public HttpUpstream::User {
 public:
  Probe(HttpRuntime& runtime, UniqueFd socket)
      : runtime_(runtime),
        upstream_(std::make_shared<HttpUpstream>(runtime.pool_, std::move(socket),
                                                 /*connected=*/false, runtime.function_.port,
                                                 /*to_head=*/false, *this)) {}

  void Open() {
    if (!runtime_.function_.ready_path.empty()) {
      upstream_->Write(
          fmt::format("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUser-Agent: brood\r\n"
                      "Connection: close\r\n\r\n",
                      runtime_.function_.ready_path, runtime_.function_.port));
    }
    upstream_->Open();
  }

  void OnConnected() override {
    if (runtime_.function_.ready_path.empty()) End(/*ready=*/true);
  }

  void OnAnswer(const ResponseHead& head, std::string_view, bool done) override {
    if (done) End(head.status >= 200 && head.status < 400);
  }
  void OnBroken(const std::string&, bool) override { End(/*ready=*/false); }
  void OnRoom() override {}

 private:
  void End(bool ready) {
    const auto self = std::exchange(runtime_.probe_, nullptr);
    UniqueFd socket = upstream_->Release();
    if (!ready) {
      runtime_.Disconnect(std::move(socket));
      return runtime_.TryAgain();
    }
    const bool connected = runtime_.function_.ready_path.empty();
    if (!connected) runtime_.Disconnect(std::move(socket));
    runtime_.OnReady(connected ? std::move(socket) : UniqueFd());
  }

  HttpRuntime& runtime_;
  const std::shared_ptr<HttpUpstream> upstream_;
};

absl::Status HttpRuntime::Open(Stdio& stdio) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "making the channel for a function's sockets");
  }
  channel_.reset(ends[0]);
  workers_channel_.reset(ends[1]);
  awaited_ = function_.max_inflight;
  BROOD_RETURN_IF_ERROR(
      channel_watch_.Start(channel_.get(), POLLIN, [weak = weak_from_this()](short) {
        if (const auto self = weak.lock()) self->TakeSockets();
      }));
  stdio.mode = StdioMode::kEndpoint;
  stdio.fds[0] = workers_channel_.get();
  stdio.sockets = function_.max_inflight;
  return absl::OkStatus();
}

void HttpRuntime::OnWorkerEnded() {
  ended_ = true;
  on_room = on_over = nullptr;
  channel_watch_.Stop();
  channel_.reset();
  workers_channel_.reset();
  if (timer_) timers_.Cancel(*timer_);
  timer_.reset();
  probe_.reset();
  free_.clear();
  idle_.clear();
  closing_.clear();
}

// The worker sends them before it execs. With too few it has come to nothing, which its outcome
// tells.
void HttpRuntime::TakeSockets() {
  while (awaited_ > 0) {
    char byte = 0;
    ReceivedFds<1> received;
    const ssize_t got = ReceiveWithFds(channel_.get(), &byte, 1, received, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || received.count != 1) break;
    free_.emplace_back(received.fds[0]);
    --awaited_;
  }
  channel_watch_.Stop();
  channel_.reset();
  workers_channel_.reset();
  if (awaited_ == 0) return TryOut();
  // A worker that came to nothing, or there were no numbers left for its sockets.
  failed_ = true;
  if (const auto over = on_over) over();
}

void HttpRuntime::TryOut() {
  if (ended_ || ready_ || free_.empty()) return;
  UniqueFd socket = std::move(free_.back());
  free_.pop_back();
  probe_ = std::make_shared<Probe>(*this, std::move(socket));
  const auto probe = probe_;
  probe->Open();
}

// Nothing tells that somebody has begun to listen.
void HttpRuntime::TryAgain() {
  if (ended_) return;
  const auto pause = std::min<std::chrono::nanoseconds>(
      std::chrono::milliseconds(1 << std::min(tries_, 5)), kLongestPause);
  ++tries_;
  timer_ = timers_.Add(pause, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->timer_.reset();
    self->TryOut();
  });
}

// The first call takes the connection that has just been made. Without one it is closed: there are
// servers that serve one connection at a time, and would wait for it to say something.
void HttpRuntime::OnReady(UniqueFd connected) {
  const auto self = shared_from_this();
  ready_ = true;
  const int fd = connected.get();
  if (connected.valid()) idle_.push_back({std::move(connected), NowNs() + kKeepNs});
  if (on_room) on_room();
  if (idle_.empty() || idle_.back().socket.get() != fd) return;
  Idle idle = std::move(idle_.back());
  idle_.pop_back();
  LetGo(std::move(idle));
}

std::size_t HttpRuntime::room() const {
  return ready_ && !ended_ ? free_.size() + idle_.size() + closing_.size() : 0;
}

HttpRuntime::Line HttpRuntime::Take(bool fresh) {
  if (fresh && free_.empty() && closing_.empty() && !idle_.empty()) {
    UniqueFd socket = std::move(idle_.front().socket);
    idle_.erase(idle_.begin());
    Disconnect(std::move(socket));
  }
  while (!fresh && !idle_.empty()) {
    Line line{std::move(idle_.back().socket), true};
    idle_.pop_back();
    if (IsQuiet(line.socket.get())) return line;
    Disconnect(std::move(line.socket));
  }
  if (free_.empty() && !closing_.empty()) {
    UniqueFd socket = std::move(closing_.front().socket);
    closing_.erase(closing_.begin());
    Disconnect(std::move(socket));
  }
  if (free_.empty()) return {};
  Line line{std::move(free_.back()), false};
  free_.pop_back();
  return line;
}

void HttpRuntime::GiveBack(UniqueFd socket, Left left) {
  if (ended_ || !socket.valid()) return;
  if (left == Left::kBroken) return Disconnect(std::move(socket));
  if (left == Left::kWhole) return LetGo({std::move(socket), 0});
  idle_.push_back({std::move(socket), NowNs() + kKeepNs});
  SweepLater();
}

// What the other side has not read is lost, and it hears of that.
void HttpRuntime::Disconnect(UniqueFd socket) {
  const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
  int error = 0;
  socklen_t length = sizeof(error);
  if (!socket.valid() || connect(socket.get(), &none, sizeof(none)) != 0) return;
  // The reset that it has sent is remembered as its own error.
  (void)getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  free_.push_back(std::move(socket));
}

// In good order: the other side reads the end, and closes.
void HttpRuntime::LetGo(Idle idle) {
  if (shutdown(idle.socket.get(), SHUT_WR) != 0) return Disconnect(std::move(idle.socket));
  idle.until_ns = NowNs() + kCloseNs;
  closing_.push_back(std::move(idle));
  SweepLater();
}

void HttpRuntime::SweepLater() {
  if (timer_) return;
  timer_ = timers_.Add(kSweep, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->timer_.reset();
    self->Sweep();
  });
}

void HttpRuntime::Sweep() {
  const std::int64_t now = NowNs();
  while (!closing_.empty() && closing_.front().until_ns <= now) {
    UniqueFd socket = std::move(closing_.front().socket);
    closing_.erase(closing_.begin());
    Disconnect(std::move(socket));
  }
  while (!idle_.empty() && idle_.front().until_ns <= now) {
    Idle idle = std::move(idle_.front());
    idle_.erase(idle_.begin());
    LetGo(std::move(idle));
  }
  if (!idle_.empty() || !closing_.empty()) SweepLater();
}

}  // namespace brood
