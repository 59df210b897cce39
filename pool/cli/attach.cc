#include "pool/cli/attach.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>

#include "pool/cli/commands.h"
#include "pool/cli/foreground.h"
#include "spawn/status.h"

namespace brood {

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
  // A connection that breaks is told when it is read from.
  const ForegroundActions actions = {
      .signal = [&](const SignalOrder& order) { (void)client.SignalForeground(tag, order); },
      .ask_reads =
          [&](const FileIdentity& file) { (void)client.AskWhetherForegroundReads(tag, file); }};
  for (;;) {
    BROOD_RETURN_IF_ERROR(foreground->Watch(client.fd(), actions));
    do {
      BROOD_ASSIGN_OR_RETURN(const Incoming message, client.Next());
      if (message.type() == MessageType::kReads) {
        BROOD_ASSIGN_OR_RETURN(const Reads reads, DecodeBody<Reads>(message.body));
        foreground->TellReads(reads.waits != 0);
        continue;
      }
      foreground->Finish();
      return DecodeBody<Ended>(message.body);
    } while (client.has_message());
  }
}

int Report(const absl::StatusOr<Ended>& ended) {
  if (!ended.ok()) return Complain(ended.status());
  if (!ended->message.empty()) std::fprintf(stderr, "brood: %s\n", ended->message.c_str());
  return ended->exit_status;
}

}  // namespace brood
