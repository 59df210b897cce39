// SPDX-License-Identifier: Apache-2.0

// cgroup2's mount option favordynmods (Linux 6.0), for as long as a measurement takes.
//
// On Linux 6.18 moving processes stays cheap after the option has been unset, until the next boot:
// the kernel does not go back from the locks that it once switched to.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {

// Sets the option on the one cgroup2 hierarchy of the machine, for everybody; sets it back when
// destroyed. A process of its own does both, so that it is set back even when this one is killed.
class FavorDynmods {
 public:
  // `mount` is where cgroup2 is mounted. kFailedPrecondition where the option is on already,
  // kUnimplemented where the kernel does not know it, and what remounting says.
  static absl::StatusOr<FavorDynmods> Set(const std::string& mount);
  FavorDynmods(FavorDynmods&&) = default;
  FavorDynmods& operator=(FavorDynmods&&) = delete;
  ~FavorDynmods();

 private:
  FavorDynmods(int guardian, UniqueFd life) : guardian_(guardian), life_(std::move(life)) {}

  int guardian_;
  UniqueFd life_;  // the guardian sets it back at its end of file
};

}  // namespace brood::bench
