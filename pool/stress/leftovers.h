// SPDX-License-Identifier: Apache-2.0

// What a run has changed outside its own processes, and how it is undone: by the run itself, by a
// guardian if the run is killed, by the next run if the guardian was killed too.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood::limits {

// A new cgroup in `mount` that belongs to the run of process `owner`.
absl::StatusOr<std::string> MakeRunCgroup(const std::string& mount, pid_t owner);

// Writes `value` to a file below /proc/sys, for the time of the run of process `owner`: what was
// there is noted in /run/brood first. Needs root.
absl::Status SetForNow(const std::string& file, std::uint64_t value, pid_t owner);

// Removes the cgroups of runs that have died, and puts back what they had set. Those of living ones
// stay.
absl::Status ClearLeftovers();

// The same for this process's own run, which must have ended.
absl::Status ClearOwn();

// A process that clears up after this one if it dies before it has dismissed the guardian. It is in
// a session of its own, so that ^C is not for it, and the last that the OOM killer takes. Sysctls
// are put back at once, cgroups when those who were in them are gone.
class Guardian {
 public:
  // Forks: this process must have one thread.
  static absl::StatusOr<Guardian> Hire();
  Guardian(Guardian&&) = default;
  Guardian& operator=(Guardian&&) = delete;
  ~Guardian();  // dismisses it

 private:
  Guardian(pid_t pid, UniqueFd life) : pid_(pid), life_(std::move(life)) {}

  pid_t pid_;
  UniqueFd life_;  // a byte dismisses it; the end of file tells that all who were forked are gone
};

}  // namespace brood::limits
