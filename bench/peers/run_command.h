// SPDX-License-Identifier: Apache-2.0

// Another program's whole command, from posix_spawn to reaped, and what it had to say.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/peers/peer.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {

// A file in memory that takes the first 64 KiB of what is written to it and refuses the rest:
// whoever writes is never blocked by a reader, and nobody has to read while time is taken.
class Utterance {
 public:
  static absl::StatusOr<Utterance> Create();
  int fd() const { return fd_.get(); }
  void Forget();             // starts anew
  std::string Text() const;  // since then

 private:
  UniqueFd fd_;
};

// Starts `program`, a path, with `argv` and a small environment of its own: stdin is /dev/null,
// stdout and stderr are `output`. The pid.
absl::StatusOr<pid_t> StartProgram(const std::string& program, const Words& argv, int output);

// Runs one command after the other. Not thread-safe.
class CommandRunner {
 public:
  static absl::StatusOr<CommandRunner> Create();

  // OK when it exited with 0. Else a sentence with its own last words. Killed when it takes longer
  // than `patience`: kDeadlineExceeded.
  absl::Status Run(const std::string& program, const Words& argv,
                   std::chrono::milliseconds patience = std::chrono::seconds(60));

  // What the last one wrote.
  std::string Output() const { return utterance_.Text(); }

 private:
  explicit CommandRunner(Utterance utterance) : utterance_(std::move(utterance)) {}
  Utterance utterance_;
};

// The last lines of what a program wrote, on one line and short enough for a table: without colours
// and time stamps.
std::string LastWords(const std::string& text);

}  // namespace brood::bench
