// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "spawn/base/fd_message.h"
#include "spawn/base/status.h"

namespace brood {

absl::StatusOr<sockaddr_un> SocketAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return InvalidError("the socket's path {} is longer than {} bytes", path,
                        sizeof(address.sun_path) - 1);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

absl::Status Connection::Receive(std::vector<Incoming>& out) {
  std::array<char, 65536> bytes;
  ReceivedFds<kMaxMessageFds> fds;
  const ssize_t got = ReceiveWithFds(socket_.get(), bytes.data(), bytes.size(), fds, 0);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return absl::OkStatus();
    return ErrnoError(errno, "reading from the socket");
  }
  for (std::size_t i = 0; i < fds.count; ++i) in_fds_.emplace_back(fds.fds[i]);
  if (fds.cut) {
    return InvalidError(
        "descriptors that came with a message could not be taken: at most {} may come, and "
        "this process must be able to open that many",
        kMaxMessageFds);
  }
  if (got == 0) {
    return Error(absl::StatusCode::kOutOfRange, "the other end closed the connection");
  }
  in_.append(bytes.data(), static_cast<std::size_t>(got));

  std::size_t taken = 0;
  absl::Status status;
  while (in_.size() - taken >= sizeof(MessageHeader)) {
    MessageHeader header;
    std::memcpy(&header, in_.data() + taken, sizeof(header));
    status = CheckHeader(header);
    if (!status.ok()) break;
    if (in_.size() - taken - sizeof(header) < header.length) break;
    if (in_fds_.size() < header.fds) {
      status = InvalidError("a message came with {} descriptors, but says {}", in_fds_.size(),
                            header.fds);
      break;
    }
    Incoming& whole = out.emplace_back();
    whole.header = header;
    whole.body = in_.substr(taken + sizeof(header), header.length);
    for (std::uint32_t i = 0; i < header.fds; ++i) whole.fds.push_back(std::move(in_fds_[i]));
    in_fds_.erase(in_fds_.begin(), in_fds_.begin() + header.fds);
    taken += sizeof(header) + header.length;
  }
  in_.erase(0, taken);
  // Descriptors nobody announced would pile up.
  if (status.ok() && in_fds_.size() > kMaxMessageFds) {
    status = InvalidError("descriptors came without a message that needs them");
  }
  return status;
}

absl::Status Connection::SendBody(MessageType type, std::uint64_t tag, const std::string& body,
                                  std::span<const int> fds) {
  if (fds.size() > kMaxMessageFds) {
    return InvalidError("{} descriptors are too many for one message", fds.size());
  }
  MessageHeader header;
  header.type = static_cast<std::uint16_t>(type);
  header.length = static_cast<std::uint32_t>(body.size());
  header.fds = static_cast<std::uint32_t>(fds.size());
  header.tag = tag;
  const std::size_t before = out_.size();
  out_.append(reinterpret_cast<const char*>(&header), sizeof(header));
  out_.append(body);
  if (fds.empty()) return Flush();

  if (before != 0) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "descriptors can only be sent when nothing is queued");
  }
  const ssize_t sent = SendWithFds<kMaxMessageFds>(socket_.get(), out_.data(), out_.size(),
                                                   fds.data(), fds.size(), MSG_NOSIGNAL);
  if (sent < 0) return ErrnoError(errno, "writing to the socket");
  out_.erase(0, static_cast<std::size_t>(sent));
  return Flush();
}

absl::Status Connection::Flush() {
  std::size_t sent = 0;
  absl::Status status;
  while (sent < out_.size()) {
    const ssize_t count = send(socket_.get(), out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      if (errno != EAGAIN) status = ErrnoError(errno, "writing to the socket");
      break;
    }
    sent += static_cast<std::size_t>(count);
  }
  out_.erase(0, sent);
  return status;
}

}  // namespace brood
