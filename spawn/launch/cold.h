// SPDX-License-Identifier: Apache-2.0

// The cold path: one isolated process with nothing prepared.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/mailbox.h"
#include "spawn/launch/stdio.h"
#include "spawn/outcome.h"
#include "spawn/plan/blueprint.h"
#include "spawn/spec.h"

namespace brood {

class ParentCgroup;

// What a worker starts with that no other worker may have.
struct Birthplace {
  int parent_fd = -1;          // directory of the cgroup leaves, borrowed; -1: no cgroup
  std::string leaf;            // its leaf below it
  std::uint32_t id_first = 0;  // its range of host ids; ignored when the launcher cannot map ranges
};

// Descriptors that every cold start of a launcher uses. Opened once by each launcher; a process
// forked from it has to open its own.
struct LauncherFds {
  UniqueFd proc;                      // /proc
  UniqueFd self;                      // pidfd of the launcher
  UniqueFd null;                      // /dev/null
  std::uint64_t ignored_signals = 0;  // bit n-1: signal n is ignored here
  std::uint32_t odd_attributes = 0;  // of the thread that opened them (spawn/host/own_attributes.h)

  static absl::StatusOr<LauncherFds> Open();
};

// A worker's user and group on the host. Absent where the launcher cannot give them files, or where
// they are those of a joined user namespace.
std::optional<HostIds> HostIdsOf(const Blueprint& blueprint, std::uint32_t id_first);

// Fills in the ids a worker of the blueprint is mapped to, where its plan leaves them to the
// mailbox.
void SetIdMap(const Blueprint& blueprint, std::uint32_t id_first, Mailbox& box);

// A worker on its way or running. Move-only. Its owner has to reap it (spawn/launch/reap.h) once
// pidfd() is readable, and gives it up for that; destroying it earlier kills it and waits. Not
// thread-safe. The thread that calls Start must live as long as the worker: the kernel ends a
// worker with the thread that made it (PR_SET_PDEATHSIG).
class ColdWorker {
 public:
  // Clones the worker; does not wait for its exec. A step that fails inside shows in the mailbox
  // when the worker ends. If the kernel refuses the clone, that is no error here either:
  // `started()` is false and the mailbox holds the failure. The status tells what failed before
  // that.
  static absl::StatusOr<ColdWorker> Start(const Blueprint& blueprint, const Command& command,
                                          const Birthplace& place, const LauncherFds& launcher);

  ColdWorker(ColdWorker&& other) noexcept;
  ColdWorker& operator=(ColdWorker&& other) noexcept;
  ~ColdWorker();

  bool started() const { return pidfd_.valid(); }
  int pidfd() const { return pidfd_.get(); }
  const Mailbox& mailbox() const { return *box_; }
  // The launcher's ends of captured stdout and stderr (kCapture), else -1.
  std::array<UniqueFd, 2>& outputs() { return outputs_; }
  // Lent to the worker until it has ended.
  LentTerminals& terminals() { return terminals_; }
  // To be called after Reap: nothing is left to kill.
  void Reaped() { pidfd_.reset(); }
  // The pidfd of one that has ended, and the duty to reap it.
  UniqueFd GiveUp() { return std::move(pidfd_); }

 private:
  ColdWorker() = default;
  void Release();

  char* memory_ = nullptr;  // shared: mailbox, launch, stack
  std::size_t memory_bytes_ = 0;
  Mailbox* box_ = nullptr;
  UniqueFd pidfd_;
  std::array<UniqueFd, 2> outputs_;
  LentTerminals terminals_;
};

// Runs `command` to its end and tells how it went; blocks. Captured output is read as it comes, and
// kept up to Stdio::capture_bytes of each stream. `parent`, when not null, has the leaf of
// `place`: a timeout kills all that is in it, otherwise the worker alone, whose pid namespace dies
// with it. `orders`, when not -1, is a Unix socket of packets: each SignalOrder that comes over it
// (spawn/launch/signals.h) is carried out and answered with one byte. `on_started`, when not null,
// is called with the worker's number once it is cloned; an error of its ends the worker.
absl::StatusOr<Outcome> RunCold(const Blueprint& blueprint, const Command& command,
                                const Birthplace& place, const ParentCgroup* parent,
                                int orders = -1,
                                const std::function<absl::Status(int pid)>& on_started = nullptr);

}  // namespace brood
