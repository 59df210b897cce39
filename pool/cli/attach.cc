// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/attach.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>

#include "pool/cli/commands.h"
#include "pool/cli/foreground.h"
#include "spawn/base/status.h"

namespace brood {

namespace {

// What the daemon says of one command, between what it is asked.
class Attached {
 public:
  Attached(Client& client, Foreground& foreground, std::uint64_t tag)
      : client_(client), foreground_(foreground), tag_(tag) {}

  absl::StatusOr<Ended> Watch() {
    // A connection that breaks is told when it is read from.
    const ForegroundActions actions = {.signal = [this](const SignalOrder& order) { Send(order); },
                                       .ask_reads =
                                           [this](const FileIdentity& file) {
                                             (void)client_.AskWhetherForegroundReads(tag_, file);
                                           }};
    while (!ended_) {
      BROOD_RETURN_IF_ERROR(foreground_.Watch(client_.fd(), actions));
      if (!ended_) Take();
    }
    if (ended_->ok()) foreground_.Finish();
    return *std::move(ended_);
  }

 private:
  // Nobody shall be stopped before the command: what it reads would be the shell's.
  void Send(const SignalOrder& order) {
    if (ended_ || !client_.SignalForeground(tag_, order).ok()) return;
    ++unanswered_;
    if (order.number != SIGTSTP) return;
    while (unanswered_ > 0 && !ended_) Take();
  }

  // Takes what has come; waits for it.
  void Take() {
    do {
      absl::StatusOr<Incoming> message = client_.Next();
      if (!message.ok()) {
        ended_ = message.status();
      } else if (message->type() == MessageType::kDone) {
        --unanswered_;
      } else if (message->type() == MessageType::kReads) {
        const absl::StatusOr<Reads> reads = DecodeBody<Reads>(message->body);
        foreground_.TellReads(reads.ok() && reads->waits != 0);
      } else {
        ended_ = DecodeBody<Ended>(message->body);
      }
    } while (!ended_ && client_.has_message());
    if (ended_) foreground_.EndWatch();
  }

  Client& client_;
  Foreground& foreground_;
  const std::uint64_t tag_;
  int unanswered_ = 0;
  std::optional<absl::StatusOr<Ended>> ended_;
};

}  // namespace

absl::StatusOr<Ended> Attach(Client& client, const AttachOptions& options,
                             const std::function<absl::StatusOr<std::uint64_t>(
                                 ClientIo, TerminalSize, std::span<const int>)>& start) {
  BROOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<Foreground> foreground,
      Foreground::Begin({.terminal = options.terminal, .input = options.interactive}));
  const Stdio stdio = foreground->stdio();
  const bool terminal = stdio.mode == StdioMode::kTerminal;
  BROOD_ASSIGN_OR_RETURN(
      const std::uint64_t tag,
      start(terminal ? ClientIo::kTerminal : ClientIo::kFds, {stdio.rows, stdio.columns},
            std::span(stdio.fds).first(terminal ? 1 : stdio.fds.size())));
  foreground->Started();
  return Attached(client, *foreground, tag).Watch();
}

int Report(const absl::StatusOr<Ended>& ended) {
  if (!ended.ok()) return Complain(ended.status());
  if (!ended->message.empty()) std::fprintf(stderr, "brood: %s\n", ended->message.c_str());
  return ended->exit_status;
}

}  // namespace brood
