// SPDX-License-Identifier: Apache-2.0

// Fuzzes what a daemon and its clients read from each other: the bodies of all messages, and the
// putting together of messages that arrive in pieces.
//
// The input is a stream as it comes over the socket, behind one byte that says in which pieces.
// With clang's libFuzzer this is an ordinary target. Elsewhere there is tests/fuzz/driver.cc.
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "pool/daemon/connection.h"
#include "pool/daemon/protocol.h"

namespace brood {
namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "protocol_fuzz: broken: %s\n", what);
  std::abort();
}

// What is taken must be written as it was read: there is one way to write each message.
template <typename M>
void Decode(std::string_view body) {
  if (const absl::StatusOr<M> message = DecodeBody<M>(body); message.ok()) {
    Require(EncodeBody(*message) == body, "a message is not written as it was read");
  }
}

void DecodeAll(std::string_view body) {
  Decode<Submit>(body);
  Decode<ExecIn>(body);
  Decode<SignalTo>(body);
  Decode<AskReads>(body);
  Decode<Reads>(body);
  Decode<StopIsolate>(body);
  Decode<IsolateName>(body);
  Decode<ListIsolates>(body);
  Decode<ReadLogs>(body);
  Decode<StartedAs>(body);
  Decode<Ended>(body);
  Decode<Text>(body);
  Decode<LogPart>(body);
  Decode<Refusal>(body);
}

struct Taken {
  std::vector<std::string> messages;  // header and body
  absl::StatusCode end = absl::StatusCode::kOk;
};

// Sends `stream` in pieces of `piece` bytes and receives after each.
Taken Receive(std::string_view stream, std::size_t piece) {
  int ends[2];
  Require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0,
          "a socket");
  const UniqueFd writer(ends[0]);
  Connection connection{UniqueFd(ends[1])};
  Taken taken;
  std::vector<Incoming> messages;
  while (!stream.empty() && taken.end == absl::StatusCode::kOk) {
    const std::string_view part = stream.substr(0, piece);
    const ssize_t sent = send(writer.get(), part.data(), part.size(), MSG_NOSIGNAL);
    if (sent > 0) stream.remove_prefix(static_cast<std::size_t>(sent));
    taken.end = connection.Receive(messages).code();
    Require(connection.partial_bytes() <= sizeof(MessageHeader) + kMaxBody ||
                taken.end != absl::StatusCode::kOk,
            "more is kept than the longest message");
  }
  for (const Incoming& message : messages) {
    Require(message.body.size() == message.header.length, "a body's length");
    Require(message.fds.size() == message.header.fds, "a message's descriptors");
    taken.messages.emplace_back(reinterpret_cast<const char*>(&message.header),
                                sizeof(message.header));
    taken.messages.back() += message.body;
    DecodeAll(message.body);
  }
  return taken;
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  brood::DecodeAll(stream);
  // Pieces must not change what arrives.
  const brood::Taken whole = brood::Receive(stream, 16'384);
  const brood::Taken pieces = brood::Receive(stream, std::size_t{1} + data[0]);
  brood::Require(whole.messages == pieces.messages, "pieces arrive as other messages");
  brood::Require(whole.end == pieces.end, "pieces end in another way");
  return 0;
}
