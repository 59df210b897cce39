// SPDX-License-Identifier: Apache-2.0

// The user's terminal while a command has one of its own inside.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Text of others, fit for a terminal: controls are question marks, and what is longer than `width`
// is cut.
std::string Printable(std::string text, std::size_t width = 60);

struct TerminalSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};
// Of the terminal `fd`; zeros when it does not say.
TerminalSize SizeOf(int fd);

// Holds a terminal in raw mode: every key goes to the command, whose own terminal makes signals of
// them. It is put back by the destructor, or, when this process is killed, by a small guardian
// process that waits for that.
class RawTerminal {
 public:
  // kFailedPrecondition when `fd` is no terminal. Forks; the guardian has no other descriptor.
  static absl::StatusOr<std::unique_ptr<RawTerminal>> Enter(int fd);
  ~RawTerminal();
  // Puts it back for the time in which this process is stopped, and makes it raw again.
  void Suspend();
  void Resume();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  RawTerminal() = default;
  struct Saved;
  std::unique_ptr<Saved> saved_;
  int fd_ = -1;
  UniqueFd guard_;  // pipe; its end without a byte tells the guardian to act
  pid_t guardian_ = -1;
};

// The two descriptors of a launch's terminal: the worker's end goes along with the command, and the
// worker sends its terminal's master over it.
struct TerminalSocket {
  UniqueFd ours;
  UniqueFd workers;
  static absl::StatusOr<TerminalSocket> Make();
  // Once `ours` is readable: the master. kUnavailable when the worker never got that far.
  absl::StatusOr<UniqueFd> TakeMaster() const;
};

// Carries bytes between the user's terminal and a command's.
class TerminalRelay {
 public:
  // `master` is non-blocking from now on.
  TerminalRelay(UniqueFd master, int in, int out);

  int master() const { return master_.get(); }
  bool open() const { return master_.valid(); }
  // What was typed and the command's terminal does not take: no more is to be read meanwhile.
  bool wants_write() const { return !pending_.empty(); }

  void FromUser();                    // `in` is readable
  void ToCommand();                   // the master takes more
  void FromCommand();                 // the master is readable or hung up; closes it at its end
  void FollowSize();                  // the user's terminal has changed its size
  void Drain();                       // what the command has written and was not read yet
  void HangUp() { master_.reset(); }  // as if the command's terminal were unplugged
  // The user's terminal can neither be read nor written any more.
  bool user_gone() const { return user_gone_; }

 private:
  UniqueFd master_;
  int in_;
  int out_;
  bool user_gone_ = false;
  std::string pending_;
};

}  // namespace brood
