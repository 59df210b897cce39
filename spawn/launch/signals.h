// SPDX-License-Identifier: Apache-2.0

// Signals for a command: what a user's Ctrl-C, a supervisor's SIGTERM or `brood stop` does to it.
//
// The first process of a pid namespace is its init, for which the kernel drops every signal that
// would take its default action (pid_namespaces(7)); SIGKILL and SIGSTOP from outside aside. A
// command does not know that it is one: so its launcher does what the kernel has left out.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "spawn/child/mailbox.h"
#include "spawn/signal_order.h"
#include "spawn/spec.h"

namespace brood {

// A command's first process, as its launcher knows it: not reaped, so its number is its own.
struct Recipient {
  int pidfd = -1;
  int pid = 0;
  bool init = false;      // of a pid namespace of its own
  bool starting = false;  // has not come to its command: what it blocks is its launcher's choice
};

Recipient RecipientOf(const Spec& spec, int pidfd, const Mailbox& box);

// Sends a signal, and to an init does what it would do to any process: one that it neither handles,
// nor ignores, nor blocks ends or stops it. True when it ends by it: SIGKILL was sent instead, and
// the outcome is to name the signal that was meant. The status of a signal that could not be sent:
// kNotFound when the process has ended.
absl::StatusOr<bool> Deliver(const Recipient& to, const SignalOrder& order);

// Those that ask a command to end: SIGINT, SIGTERM, SIGQUIT and SIGHUP.
bool AsksToEnd(int number);

// The rule for a command in the foreground that does not end when it is asked to.
class EndRequests {
 public:
  // Whether the signal `number`, which has come for the command at `now_ns` (CLOCK_MONOTONIC),
  // means that it is to be killed: the second that asks it to end, of whichever kind, does. Twice
  // the same at once is one, though: timeout(1) sends its signal to the process and to its group.
  bool MeansKill(int number, std::int64_t now_ns);

 private:
  int last_ = 0;
  std::int64_t last_ns_ = 0;
};

}  // namespace brood
