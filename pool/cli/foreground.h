// SPDX-License-Identifier: Apache-2.0

// A command in the foreground of a terminal or a script: its signals, its terminal and its input,
// as they would be if it were a child in the user's own session. It has a session of its own, where
// the kernel's job control (setpgid(2), tty_ioctl(4)) does not reach it; so this does the same:
//
//   Ctrl-C, SIGTERM ...   go to the command; the second that asks it to end kills it
//   Ctrl-Z, SIGTSTP       stops the command, then us; SIGCONT continues both
//   in the background     a command that reads the terminal is stopped by SIGTTIN, and we too
//   the terminal is gone  with -t: SIGHUP, and what stays is killed
#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "pool/cli/terminal.h"
#include "spawn/host/process_tree.h"
#include "spawn/launch/signals.h"
#include "spawn/spec.h"

namespace brood {

// How to get at the command.
struct ForegroundActions {
  std::function<void(const SignalOrder&)> signal;
  // Asks whether something of it waits to read `file`; Foreground::TellReads has the answer, sooner
  // or later.
  std::function<void(const FileIdentity& file)> ask_reads;
};

// Not thread-safe; made before the thread that watches, since signals are blocked in both.
class Foreground {
 public:
  struct Options {
    bool terminal = false;  // -t: it has one of its own, and ours is raw
    bool input = false;     // it has our stdin, else /dev/null
  };
  // Blocks the signals that are for the command. kFailedPrecondition: there is no terminal for -t.
  static absl::StatusOr<std::unique_ptr<Foreground>> Begin(const Options& options);
  ~Foreground();

  // What the command is to be started with (kTerminal, kInherit or kFds, all three set). Valid
  // until Started.
  Stdio stdio() const;
  // The command has its descriptors: ours of its side are closed.
  void Started();

  // Serves until `until` is readable, or an action has called EndWatch.
  absl::Status Watch(int until, const ForegroundActions& actions);
  void EndWatch() { watching_ = false; }
  void TellReads(bool reads);
  // The command has ended: shows what it has written to its terminal and was not read yet.
  void Finish();

 private:
  Foreground() = default;
  absl::Status TakeSignals();
  absl::Status PrepareInput();
  bool InForeground() const;
  int NextLookMs() const;

  void TakeSignal(const ForegroundActions& actions);
  void OnTime(const ForegroundActions& actions);
  void TakeMaster();
  void HangUp(const ForegroundActions& actions);
  // Stops the command, and then this process by `number`; returns when it is continued.
  void Stop(int number, const ForegroundActions& actions);
  void Continue(const ForegroundActions& actions);
  void Feed();

  Options options_;
  sigset_t taken_{};
  std::uint64_t ignored_ = 0;  // bit n-1: signal n was ignored when we were started
  UniqueFd signals_;
  UniqueFd null_;
  EndRequests requests_;
  bool watching_ = true;

  TerminalSocket socket_;
  bool master_awaited_ = false;
  std::unique_ptr<RawTerminal> raw_;
  std::optional<TerminalRelay> relay_;
  std::int64_t kill_at_ns_ = 0;  // when what has outlived the terminal is killed; 0: never

  // Our stdin is the terminal of our session, and the command has it, or, when it was started in
  // the background, a pipe: what stands in the terminal is not its then.
  bool job_control_ = false;
  UniqueFd pipe_;  // the command's end
  UniqueFd feed_;  // ours
  std::string pending_;
  FileIdentity input_;
  bool asked_ = false;             // whether something reads it
  std::optional<bool> reads_;      // the answer
  bool continue_awaited_ = false;  // the command is stopped until the answer has come
};

}  // namespace brood
