// SPDX-License-Identifier: Apache-2.0

#include "bench/functions/http_caller.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "spawn/base/status.h"

namespace brood::bench {
namespace {

// The value of `name` in a head, as the daemon writes it; empty where it is not there.
std::string_view Field(std::string_view head, std::string_view name) {
  const std::string wanted = fmt::format("\r\n{}: ", name);
  const std::size_t at = head.find(wanted);
  if (at == std::string_view::npos) return {};
  head.remove_prefix(at + wanted.size());
  return head.substr(0, head.find("\r\n"));
}

absl::StatusOr<std::size_t> Number(std::string_view text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  return Error(absl::StatusCode::kInternal, "\"{}\" is no number in an answer", text);
}

}  // namespace

absl::StatusOr<HttpCaller> HttpCaller::Connect(std::uint16_t port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoError(errno, "making a socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoError(errno, "connecting to 127.0.0.1 port {}", port);
  }
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // A daemon that hangs must not hang the run.
  const timeval patience{20, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return HttpCaller(std::move(fd));
}

absl::Status HttpCaller::Read() {
  std::array<char, 16384> piece;
  const ssize_t got = recv(socket_.get(), piece.data(), piece.size(), 0);
  if (got < 0) return ErrnoError(errno, "waiting for an answer");
  if (got == 0) return Error(absl::StatusCode::kUnavailable, "the connection was closed");
  input_.append(piece.data(), static_cast<std::size_t>(got));
  return absl::OkStatus();
}

absl::StatusOr<HttpCaller::Answer> HttpCaller::Call(std::string_view request) {
  const ssize_t sent = send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(request.size())) return ErrnoError(errno, "sending a request");
  std::size_t end = std::string::npos;
  while ((end = input_.find("\r\n\r\n")) == std::string::npos) BROOD_RETURN_IF_ERROR(Read());
  const std::string head = input_.substr(0, end + 2);
  input_.erase(0, end + 4);
  BROOD_ASSIGN_OR_RETURN(const std::size_t status, Number(std::string_view(head).substr(9, 3)));
  BROOD_ASSIGN_OR_RETURN(const std::size_t length, Number(Field(head, "Content-Length")));
  while (input_.size() < length) BROOD_RETURN_IF_ERROR(Read());
  Answer answer{static_cast<int>(status), std::string(Field(head, "Brood-Path")),
                input_.substr(0, length)};
  input_.erase(0, length);
  return answer;
}

std::string PostRequest(std::string_view function, std::string_view body) {
  return fmt::format("POST /functions/{} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{}",
                     function, body.size(), body);
}

std::string GetRequest(std::string_view path) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", path);
}

}  // namespace brood::bench
