// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/client.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "spawn/base/status.h"

namespace brood {

namespace {

constexpr const char* kMachinesSocket = "/run/brood/brood.sock";

// Where an ordinary user's own daemon listens; empty without a runtime directory.
std::string UsersSocket() {
  const char* const directory = std::getenv("XDG_RUNTIME_DIR");
  if (directory == nullptr || *directory != '/') return {};
  return std::string(directory) + "/brood/brood.sock";
}

std::string NamedSocket() {
  const char* const path = std::getenv("BROOD_SOCKET");
  return path != nullptr ? path : "";
}

}  // namespace

std::string DefaultSocketPath() {
  if (std::string named = NamedSocket(); !named.empty()) return named;
  if (geteuid() != 0) {
    if (std::string users = UsersSocket(); access(users.c_str(), F_OK) == 0) return users;
  }
  return kMachinesSocket;
}

absl::StatusOr<std::string> DefaultListenPath() {
  if (std::string named = NamedSocket(); !named.empty()) return named;
  if (geteuid() == 0) return kMachinesSocket;
  if (std::string users = UsersSocket(); !users.empty()) return users;
  return Error(
      absl::StatusCode::kFailedPrecondition,
      "an ordinary user's daemon listens in $XDG_RUNTIME_DIR, which is not set: set it, or "
      "name a socket with --socket or $BROOD_SOCKET");
}

absl::StatusOr<UniqueFd> ConnectToDaemon(const std::string& path) {
  BROOD_ASSIGN_OR_RETURN(const sockaddr_un address, SocketAddress(path));
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd.valid()) return ErrnoError(errno, "making a socket");
  if (connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error(absl::StatusCode::kUnavailable,
                   "no daemon listens on {}; start one with brood serve, or systemctl start brood",
                   path);
    }
    if (errno == EACCES) {
      return Error(
          absl::StatusCode::kPermissionDenied,
          "you may not use the daemon's socket {}; it belongs to root, or to the group that "
          "brood serve --group names",
          path);
    }
    return ErrnoError(errno, "connecting to {}", path);
  }
  return socket_fd;
}

absl::StatusOr<Client> Client::Connect(const std::string& path) {
  BROOD_ASSIGN_OR_RETURN(UniqueFd socket, ConnectToDaemon(path));
  return Client(Connection(std::move(socket)));
}

absl::StatusOr<Incoming> Client::Next() {
  while (received_.empty()) {
    std::vector<Incoming> got;
    const absl::Status read = connection_.Receive(got);
    std::reverse(got.begin(), got.end());
    received_ = std::move(got);
    if (!read.ok() && received_.empty()) {
      if (read.code() != absl::StatusCode::kOutOfRange) return read;
      return Error(absl::StatusCode::kUnavailable, "the daemon has gone away");
    }
  }
  Incoming message = std::move(received_.back());
  received_.pop_back();
  if (message.type() != MessageType::kError) return message;
  BROOD_ASSIGN_OR_RETURN(const Refusal refusal, DecodeBody<Refusal>(message.body));
  return absl::Status(static_cast<absl::StatusCode>(refusal.code), refusal.sentence);
}

absl::StatusOr<Incoming> Client::Ask(MessageType type, const std::string& body,
                                     MessageType answer) {
  BROOD_RETURN_IF_ERROR(connection_.SendBody(type, next_tag_++, body));
  BROOD_ASSIGN_OR_RETURN(Incoming message, Next());
  if (message.type() == answer) return message;
  return Error(absl::StatusCode::kInternal, "the daemon answered with a message of type {}",
               message.header.type);
}

absl::StatusOr<std::string> Client::AskText(MessageType type, const std::string& body) {
  BROOD_ASSIGN_OR_RETURN(const Incoming message, Ask(type, body, MessageType::kText));
  BROOD_ASSIGN_OR_RETURN(Text text, DecodeBody<Text>(message.body));
  return std::move(text.text);
}

absl::StatusOr<Ended> Client::Run(Submit submit, const std::array<int, 3>& fds) {
  submit.io = ClientIo::kFds;
  BROOD_RETURN_IF_ERROR(Start(submit, fds).status());
  BROOD_ASSIGN_OR_RETURN(const Incoming message, Next());
  return DecodeBody<Ended>(message.body);
}

absl::StatusOr<StartedAs> Client::RunDetached(Submit submit) {
  submit.io = ClientIo::kLogs;
  BROOD_RETURN_IF_ERROR(Start(submit, {}).status());
  BROOD_ASSIGN_OR_RETURN(const Incoming message, Next());
  if (message.type() == MessageType::kStarted) return DecodeBody<StartedAs>(message.body);
  // It ended before it ran.
  BROOD_ASSIGN_OR_RETURN(const Ended ended, DecodeBody<Ended>(message.body));
  return Error(
      absl::StatusCode::kAborted, "{}",
      ended.message.empty() ? "the worker ended before it ran the command" : ended.message);
}

absl::Status Client::SignalForeground(std::uint64_t tag, const SignalOrder& order) {
  return connection_.Send(tag, SignalTo{{}, order});
}

absl::Status Client::AskWhetherForegroundReads(std::uint64_t tag, const FileIdentity& file) {
  return connection_.Send(next_tag_++, AskReads{tag, file.device, file.inode});
}

absl::Status Client::Signal(const std::string& isolate, int signal) {
  return Ask(MessageType::kSignal, EncodeBody(SignalTo{isolate, {signal}}), MessageType::kDone)
      .status();
}

absl::Status Client::Stop(const std::string& isolate, std::uint64_t grace_ns) {
  return Ask(MessageType::kStop, EncodeBody(StopIsolate{isolate, grace_ns}), MessageType::kDone)
      .status();
}

absl::StatusOr<Ended> Client::Wait(const std::string& isolate) {
  BROOD_ASSIGN_OR_RETURN(
      const Incoming message,
      Ask(MessageType::kWait, EncodeBody(IsolateName{isolate}), MessageType::kEnded));
  return DecodeBody<Ended>(message.body);
}

absl::StatusOr<std::string> Client::List(bool all) {
  return AskText(MessageType::kList, EncodeBody(ListIsolates{static_cast<std::uint8_t>(all)}));
}

absl::StatusOr<std::string> Client::Inspect(const std::string& isolate) {
  return AskText(MessageType::kInspect, EncodeBody(IsolateName{isolate}));
}

absl::StatusOr<std::string> Client::Stats() { return AskText(MessageType::kStats, {}); }

absl::StatusOr<std::string> Client::Tree(bool all) {
  return AskText(MessageType::kTree, EncodeBody(ListIsolates{static_cast<std::uint8_t>(all)}));
}

absl::Status Client::Logs(const std::string& isolate, bool follow,
                          const std::function<void(const LogPart&)>& part) {
  BROOD_RETURN_IF_ERROR(
      connection_.Send(next_tag_++, ReadLogs{isolate, static_cast<std::uint8_t>(follow)}));
  for (;;) {
    BROOD_ASSIGN_OR_RETURN(const Incoming message, Next());
    if (message.type() == MessageType::kDone) return absl::OkStatus();
    BROOD_ASSIGN_OR_RETURN(const LogPart log, DecodeBody<LogPart>(message.body));
    part(log);
  }
}

}  // namespace brood
