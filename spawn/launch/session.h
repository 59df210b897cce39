// SPDX-License-Identifier: Apache-2.0

// A running command: what its launcher watches, decides and reports.
//
// `brood run` waits with ppoll(2), the pool with its ring, and a caller of Pool::Run in its own
// thread. They report what has happened; the rules are here: what a deadline, a signal and a frozen
// cgroup do, when output is complete, and what the outcome says.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/mailbox.h"
#include "spawn/launch/capture.h"
#include "spawn/launch/reap.h"
#include "spawn/outcome.h"
#include "spawn/plan/blueprint.h"
#include "spawn/signal_order.h"
#include "spawn/spec.h"

namespace brood {

class ParentCgroup;

// Where the worker of a session is at this moment. Borrows everything.
struct Subject {
  const Blueprint& blueprint;
  const Mailbox& box;
  int pidfd = -1;                        // -1: not known, or reaped
  const ParentCgroup* parent = nullptr;  // null: no cgroup
  const std::string& leaf;               // empty: no cgroup
};

// Not thread-safe; movable.
class Session {
 public:
  // The launcher's ends of captured stdout and stderr; non-blocking.
  std::array<UniqueFd, 2> outputs;
  WorkerFacts facts;
  std::optional<Exit> exit;  // once it has ended
  bool leaf_spoilt = false;  // a process was killed in its cgroup, which must not be used again

  // Keeps so much of each stream, the first bytes.
  void CaptureUpTo(std::size_t bytes) { captures_.fill(Capture(bytes)); }

  bool OutputOpen() const { return outputs[0].valid() || outputs[1].valid(); }
  // Reads what there is of stdout (0) or stderr (1), up to 4 MiB. False at the end of the stream,
  // which is closed then.
  bool ReadOutput(std::size_t stream);

  // Kills all of it: its cgroup; else its pid namespace, which dies with the worker; else what
  // descends from it (facts.by_tree).
  void Kill(const Subject& subject);
  // Its time is over.
  void TimeOut(const Subject& subject);
  // Its caller asked for its end.
  void KillAsAsked(const Subject& subject);
  // A signal for the command (spawn/launch/signals.h), or with number 0 its end.
  absl::Status Signal(const Subject& subject, const SignalOrder& order);

  // Whether it stands in a frozen cgroup and has not come to its command; it has been killed then.
  // To be asked kLongLaunchNs after its launch.
  bool EndIfFrozen(const Subject& subject);

  // It has ended: `how` is what Reap or AskHowItEnded found. Reads what output there is. True when
  // that is all. Otherwise another process still holds a stream open: it has been killed if it is
  // in the cgroup, and the end of the streams is still to be awaited.
  bool Ended(const Subject& subject, absl::StatusOr<Exit> how);
  // It could not be started, or how it ended is not known (`why`).
  void EndedUnseen(std::string why = {});

  // Whether SIGKILL has ended it, from any sender; only once it has ended.
  bool EndedBySigkill() const;
  // Killed while it was parked: it never saw the request.
  bool NeverSeen(const Subject& subject) const;

  // Adds all that there is to tell. The counts of its cgroup are read when it has limits, when
  // SIGKILL has ended it, or when they are wanted anyway. Takes the captured output.
  void Tell(const Subject& subject, const Command& command, bool usage_wanted, Outcome& outcome);

 private:
  std::array<Capture, 2> captures_;
  std::string lost_;  // why it is not known how it ended
};

}  // namespace brood
