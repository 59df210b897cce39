// SPDX-License-Identifier: Apache-2.0

#include "pool/http/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    "Content-Length: 0\r\n\r\n";
constexpr std::int64_t kPortOfTheDeadNs = 1'000'000'000;
constexpr int kInheritedFd = 3;  // the first of those that systemd passes (sd_listen_fds(3))
// Handshakes that had begun are over by then.
constexpr auto kHandOver = std::chrono::milliseconds(300);
constexpr auto kSweepEvery = std::chrono::milliseconds(200);

// Who has just come has not had the time to send anything, and is no less welcome than the next.
constexpr std::int64_t kSpareAfterNs = 1'000'000'000;
constexpr std::size_t kSparedAtOnce = 32;  // looking through all of them takes its time

}  // namespace

absl::StatusOr<UniqueFd> ListenHttp(const HttpOptions& options, std::uint16_t& port) {
  const bool any = options.address.empty();
  sockaddr_storage storage{};
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  socklen_t length = sizeof(sockaddr_in);
  if (!any && inet_pton(AF_INET, options.address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(options.port);
  } else if (any || inet_pton(AF_INET6, options.address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(options.port);
    length = sizeof(sockaddr_in6);
  } else {
    return InvalidError("\"{}\" is not a numeric address", options.address);
  }
  UniqueFd fd(socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid() && any && errno == EAFNOSUPPORT) {  // a machine without IPv6
    HttpOptions all = options;
    all.address = "0.0.0.0";
    return ListenHttp(all, port);
  }
  if (!fd.valid()) return ErrnoError(errno, "making a socket for HTTP");
  const int on = 1;
  const int off = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (any) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (options.share && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
    return ErrnoError(errno, "sharing the port of HTTP");
  }
  const auto* const name = reinterpret_cast<const sockaddr*>(&storage);
  const std::string where =
      fmt::format("{} port {}", any ? "all addresses," : options.address, options.port);
  // A daemon that was killed may hold the port for a moment longer than it lives: what io_uring
  // watched is let go of by a worker of the kernel's.
  const std::int64_t deadline = NowNs() + kPortOfTheDeadNs;
  while (bind(fd.get(), name, length) != 0) {
    if (errno != EADDRINUSE || NowNs() > deadline) {
      return ErrnoError(errno, "listening for HTTP on {}", where);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (listen(fd.get(), 1024) != 0) return ErrnoError(errno, "listening for HTTP on {}", where);
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return ErrnoError(errno, "asking for the port of HTTP");
  }
  port = ntohs(storage.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
  return fd;
}

absl::StatusOr<UniqueFd> InheritHttp() {
  const auto number = [](const char* name) {
    const char* const text = std::getenv(name);
    return text == nullptr ? -1 : std::atol(text);
  };
  const bool ours = number("LISTEN_PID") == getpid();
  const std::int64_t count = ours ? number("LISTEN_FDS") : 0;
  for (const char* const name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) unsetenv(name);
  if (count != 1) {
    return InvalidError(
        "--http inherited is for a daemon to which systemd passes one socket (see systemd.socket); "
        "this one got {}",
        count < 1 ? "none" : "several");
  }
  UniqueFd fd(kInheritedFd);
  int listens = 0;
  socklen_t length = sizeof(listens);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 || listens == 0) {
    return InvalidError("the socket that systemd passes does not listen: Accept= must be no");
  }
  if (fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError(errno, "preparing the socket that systemd passes");
  }
  return fd;
}

bool IsReachedFromOutside(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  const auto* const v4 = reinterpret_cast<const sockaddr_in*>(&address);
  const auto* const v6 = reinterpret_cast<const sockaddr_in6*>(&address);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return true;
  if (address.ss_family == AF_UNIX) return false;
  if (address.ss_family == AF_INET) return ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET;
  return !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

absl::Status HttpServer::Open() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return ErrnoError(errno, "reading RLIMIT_NOFILE");
  const std::uint64_t most = files.rlim_cur / 2 / pool_.FdsOfAWatch();
  max_connections_ =
      std::min<std::uint64_t>(options_.max_connections, std::max<std::uint64_t>(most, 1));
  spare_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (socket_.valid()) {
    BROOD_ASSIGN_OR_RETURN(watch_,
                           pool_.Watch(socket_.get(), POLLIN, [this](short) { (void)Accept(); }));
  }
  timers_.Add(kSweepEvery, [this] { Sweep(); });
  return absl::OkStatus();
}

// False when nobody waits any more.
bool HttpServer::Accept() {
  // A bounded number: others wait for this thread, too.
  for (int i = 0; i < 64; ++i) {
    if (!spare_.valid()) spare_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    UniqueFd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    bool full = connections_.size() >= max_connections_;
    if (!socket.valid()) {
      if (errno != EMFILE && errno != ENFILE) return false;
      // Left alone, the connection would make the socket readable for ever.
      spare_.reset();
      socket.reset(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!socket.valid()) {
        poll(nullptr, 0, 1);
        return false;
      }
      full = true;
    }
    if (full && !MakeRoom()) {
      (void)send(socket.get(), kFull.data(), kFull.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      continue;
    }
    const int on = 1;
    setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    Add(std::move(socket), std::nullopt);
  }
  return true;
}

void HttpServer::Add(UniqueFd socket, std::optional<uid_t> user) {
  auto connection = std::make_shared<HttpConnection>(pool_, options_, std::move(socket), user);
  HttpConnection* const raw = connection.get();
  connections_.emplace(raw, connection);
  // One that cannot be waited for has been closed.
  (void)connection->Open(handler_, [this, raw] { connections_.erase(raw); });
  if (shut_) connection->Retire();
}

void HttpServer::Adopt(UniqueFd socket, uid_t user) {
  if (connections_.size() < max_connections_ || MakeRoom()) return Add(std::move(socket), user);
  (void)send(socket.get(), kFull.data(), kFull.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool HttpServer::MakeRoom() {
  using Spare = HttpConnection::Spare;
  const std::int64_t now = NowNs();
  if (now < no_room_until_ns_) return false;
  std::vector<std::pair<std::pair<Spare, std::int64_t>, std::shared_ptr<HttpConnection>>> spared;
  for (const auto& [raw, connection] : connections_) {
    const Spare spare = connection->spare();
    if (spare == Spare::kNo || now - connection->since_ns() < kSpareAfterNs) continue;
    spared.emplace_back(std::pair(spare, connection->since_ns()), connection);
  }
  if (spared.empty()) {
    no_room_until_ns_ = now + std::chrono::nanoseconds(kSweepEvery).count();
    return false;
  }
  const auto end =
      spared.begin() + static_cast<std::ptrdiff_t>(std::min(kSparedAtOnce, spared.size()));
  std::partial_sort(spared.begin(), end, spared.end(),
                    [](const auto& a, const auto& b) { return a.first < b.first; });
  // One in 16 at most: a crowd of few is not to be sent away for one.
  const auto last =
      std::min(end, spared.begin() + 1 + static_cast<std::ptrdiff_t>(spared.size() / 16));
  for (auto each = spared.begin(); each != last; ++each) each->second->GiveUp();
  return true;
}

void HttpServer::Sweep() {
  if (closed_) return;
  const std::int64_t now = NowNs();
  std::vector<std::shared_ptr<HttpConnection>> all;
  all.reserve(connections_.size());
  for (const auto& [raw, connection] : connections_) all.push_back(connection);
  for (const auto& connection : all) connection->Expire(now);
  timers_.Add(kSweepEvery, [this] { Sweep(); });
}

// Those who have come already are served; whoever comes is for the daemon that takes over. Among
// sockets that share a port the kernel would still give some to this one: the program says that it
// is the second's, whose number is 1 where this one is the first. With none it falls to this one.
void HttpServer::StopListening() {
  if (std::exchange(stopping_, true)) return;
  if (!options_.share || !socket_.valid()) return ShutDoor();
  sock_filter to_the_next[] = {{BPF_RET | BPF_K, 0, 0, 1}};
  const sock_fprog program{1, to_the_next};
  (void)setsockopt(socket_.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program));
  timers_.Add(kHandOver, [this] { ShutDoor(); });
}

void HttpServer::ShutDoor() {
  if (std::exchange(shut_, true)) return;
  while (socket_.valid() && Accept()) {
  }
  const int none = 0;
  if (options_.share && socket_.valid()) {
    (void)setsockopt(socket_.get(), SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &none, sizeof(none));
  }
  if (watch_) pool_.Unwatch(*watch_);
  watch_.reset();
  socket_.reset();
  std::vector<std::shared_ptr<HttpConnection>> all;
  for (const auto& [raw, connection] : connections_) all.push_back(connection);
  for (const auto& connection : all) connection->Retire();
}

void HttpServer::Close() {
  ShutDoor();
  closed_ = true;
  std::vector<std::shared_ptr<HttpConnection>> all;
  for (const auto& [raw, connection] : connections_) all.push_back(connection);
  for (const auto& connection : all) connection->Close();
}

}  // namespace brood
