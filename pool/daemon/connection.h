// SPDX-License-Identifier: Apache-2.0

// One end of a connection between a daemon and a client: whole messages in, whole messages out.
#pragma once

#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/daemon/protocol.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// The address of the socket at `path`. kInvalidArgument for a path that is too long for one.
absl::StatusOr<sockaddr_un> SocketAddress(const std::string& path);

struct Incoming {
  MessageHeader header;
  std::string body;
  std::vector<UniqueFd> fds;

  MessageType type() const { return static_cast<MessageType>(header.type); }
};

// Not thread-safe. Works with blocking and non-blocking sockets. Descriptors come in close-on-exec.
class Connection {
 public:
  explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }
  // The socket; the connection is of no use afterwards.
  UniqueFd Release() { return std::move(socket_); }

  // Reads once from the socket and appends the messages that are complete. kOutOfRange at the end
  // of the stream; kInvalidArgument and kFailedPrecondition for a message that breaks the rules
  // (CheckHeader). The connection is of no use after an error.
  absl::Status Receive(std::vector<Incoming>& out);

  // Queues a message and sends what the socket takes. Descriptors are duplicated by the kernel once
  // their message's first byte is sent; until then they must stay open, so only a client, whose
  // socket blocks, may send some.
  template <typename M>
  absl::Status Send(std::uint64_t tag, const M& message, std::span<const int> fds = {}) {
    return SendBody(M::kType, tag, EncodeBody(message), fds);
  }
  absl::Status SendBody(MessageType type, std::uint64_t tag, const std::string& body,
                        std::span<const int> fds = {});
  // Sends more of what is queued.
  absl::Status Flush();

  std::size_t queued_bytes() const { return out_.size(); }  // not taken by the socket yet
  std::size_t partial_bytes() const { return in_.size(); }  // of a message not complete yet

 private:
  UniqueFd socket_;
  std::string in_;
  std::vector<UniqueFd> in_fds_;
  std::string out_;
};

}  // namespace brood
