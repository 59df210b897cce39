// SPDX-License-Identifier: Apache-2.0

// Cleans up after a run that was killed.
#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {

// Owns the run's scratch directory, and a process that waits for this one's end, however it comes,
// and then takes away that directory and the cgroups of dead launchers. What ends with its parent
// by itself (labs, zygotes, workers) it leaves to that.
class Janitor {
 public:
  // Makes a directory for scratch. Forks, so this process must have one thread.
  static absl::StatusOr<Janitor> Hire();
  Janitor(Janitor&&) = default;
  Janitor& operator=(Janitor&&) = delete;
  ~Janitor();  // waits until all is clean

  const std::filesystem::path& scratch() const { return scratch_; }

 private:
  Janitor(std::filesystem::path scratch, int pid, UniqueFd life)
      : scratch_(std::move(scratch)), pid_(pid), life_(std::move(life)) {}

  std::filesystem::path scratch_;
  int pid_;
  UniqueFd life_;  // the other process cleans at its end of file
};

}  // namespace brood::bench
