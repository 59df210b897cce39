// SPDX-License-Identifier: Apache-2.0

#include "pool/http/ask.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "spawn/base/status.h"

namespace brood {
namespace {

// What could end its line would begin another, and not what was asked for.
absl::Status Check(const HttpAsked& asked) {
  if (!IsToken(asked.method)) return InvalidError("\"{}\" is no method of HTTP", asked.method);
  if (!IsRequestTarget(asked.target)) {
    return InvalidError(
        "\"{}\" is no path of a request: write other characters than printable "
        "ones of ASCII as %XX",
        asked.target);
  }
  for (const auto& [name, value] : asked.fields) {
    if (!IsToken(name) || !IsFieldValue(value)) {
      return InvalidError("\"{}: {}\" is no field of HTTP", name, value);
    }
  }
  return absl::OkStatus();
}

std::string RequestBytes(const HttpAsked& asked) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\nHost: brood\r\nConnection: close\r\n",
                                asked.method, asked.target);
  for (const auto& [name, value] : asked.fields) out += fmt::format("{}: {}\r\n", name, value);
  if (!asked.body.empty() || asked.method == "POST" || asked.method == "PUT") {
    out += fmt::format("Content-Length: {}\r\n", asked.body.size());
  }
  return out + "\r\n" + asked.body;
}

}  // namespace

// Both ways at once: a server may answer, and expect to be read, before it has read all.
absl::StatusOr<ResponseHead> AskHttp(
    UniqueFd socket, const HttpAsked& asked,
    const std::function<absl::Status(const ResponseHead& head, std::string_view body)>& take) {
  BROOD_RETURN_IF_ERROR(Check(asked));
  const std::string request = RequestBytes(asked);
  std::size_t sent = 0;
  HttpResponseParser parser(asked.method == "HEAD");
  std::string input;
  bool ended = false;
  while (!parser.done()) {
    const bool sends = sent < request.size();
    pollfd fd{socket.get(), static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN), 0};
    if (poll(&fd, 1, -1) < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, "waiting for the daemon");
    }
    if (sends && (fd.revents & POLLOUT) != 0) {
      const ssize_t put = send(socket.get(), request.data() + sent, request.size() - sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put > 0) sent += static_cast<std::size_t>(put);
      // It has read all that it wants; its answer says why.
      if (put < 0 && (errno == EPIPE || errno == ECONNRESET)) sent = request.size();
    }
    if ((fd.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    std::array<char, 65536> bytes;
    const ssize_t got = recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got > 0) {
      input.append(bytes.data(), static_cast<std::size_t>(got));
    } else {
      parser.OnEnd();
      ended = true;
    }
    for (;;) {
      std::string body;
      const bool had_head = parser.has_head();
      const std::size_t used = parser.Parse(input, body);
      input.erase(0, used);
      if (!parser.error().empty()) {
        return Error(absl::StatusCode::kInternal, "the answer is no HTTP: {}", parser.error());
      }
      if (parser.has_head() && (!body.empty() || !had_head)) {
        BROOD_RETURN_IF_ERROR(take(parser.head(), body));
      }
      if (parser.done() || (used == 0 && had_head == parser.has_head())) break;
    }
    if (ended && !parser.done()) {
      return Error(absl::StatusCode::kUnavailable, "the answer was broken off");
    }
  }
  return parser.head();
}

}  // namespace brood
