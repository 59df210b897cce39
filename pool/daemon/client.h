// SPDX-License-Identifier: Apache-2.0

// A program's side of a brood daemon.
//
//   auto client = brood::Client::Connect();
//   brood::Submit submit{.argv = {"/bin/true"}, .env = brood::DefaultEnvironment(), .cwd = "/"};
//   absl::StatusOr<brood::Ended> ended = client->Run(submit, {0, 1, 2});
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/daemon/connection.h"
#include "pool/daemon/protocol.h"
#include "spawn/host/process_tree.h"

namespace brood {

// Where clients look for a daemon by default: $BROOD_SOCKET; else, if an ordinary user has a daemon
// there, $XDG_RUNTIME_DIR/brood/brood.sock; else /run/brood/brood.sock.
std::string DefaultSocketPath();
// Where a daemon listens by default: the same, but an ordinary user's always in $XDG_RUNTIME_DIR.
// kFailedPrecondition where that is not set.
absl::StatusOr<std::string> DefaultListenPath();

// A connection to the daemon that listens at `path`. kUnavailable when none does, with how to start
// one; kPermissionDenied.
absl::StatusOr<UniqueFd> ConnectToDaemon(const std::string& path);

// One connection; its functions block. Not thread-safe. Destroying it ends what it runs in the
// foreground.
class Client {
 public:
  // Errors as of ConnectToDaemon.
  static absl::StatusOr<Client> Connect(const std::string& path = DefaultSocketPath());

  // Runs a command in the foreground: its stdin, stdout and stderr are `fds`. Blocks until it has
  // ended.
  absl::StatusOr<Ended> Run(Submit submit, const std::array<int, 3>& fds);
  // Runs a command in the background; returns when its worker runs. Its output is kept by the
  // daemon (Logs).
  absl::StatusOr<StartedAs> RunDetached(Submit submit);

  // The parts of Run, for callers that have other work meanwhile: Start returns the tag, and once
  // fd() is readable Next has an answer. With ClientIo::kTerminal, `fds` has one descriptor.
  template <typename M>
  absl::StatusOr<std::uint64_t> Start(const M& message, std::span<const int> fds) {
    const std::uint64_t tag = next_tag_++;
    if (const absl::Status sent = connection_.Send(tag, message, fds); !sent.ok()) return sent;
    return tag;
  }
  // Sends a signal to what runs in the foreground under `tag`; a kDone says that it was delivered.
  absl::Status SignalForeground(std::uint64_t tag, const SignalOrder& order);
  // Asks whether it waits to read a file; the answer is a kReads.
  absl::Status AskWhetherForegroundReads(std::uint64_t tag, const FileIdentity& file);
  // Waits for the next answer. A kError is returned as its status.
  absl::StatusOr<Incoming> Next();
  // Whether Next has an answer that was already received; fd() is not readable for it.
  bool has_message() const { return !received_.empty(); }
  int fd() const { return connection_.fd(); }

  absl::Status Signal(const std::string& isolate, int signal);
  absl::Status Stop(const std::string& isolate, std::uint64_t grace_ns);
  absl::StatusOr<Ended> Wait(const std::string& isolate);
  // JSON texts.
  absl::StatusOr<std::string> List(bool all);
  absl::StatusOr<std::string> Inspect(const std::string& isolate);
  absl::StatusOr<std::string> Stats();
  absl::StatusOr<std::string> Tree(bool all);
  // Calls `part` for each piece of output; with `follow`, until the isolate has ended.
  absl::Status Logs(const std::string& isolate, bool follow,
                    const std::function<void(const LogPart&)>& part);

 private:
  explicit Client(Connection connection) : connection_(std::move(connection)) {}
  absl::StatusOr<Incoming> Ask(MessageType type, const std::string& body, MessageType answer);
  absl::StatusOr<std::string> AskText(MessageType type, const std::string& body);

  Connection connection_;
  std::uint64_t next_tag_ = 1;
  std::vector<Incoming> received_;  // oldest last
};

}  // namespace brood
