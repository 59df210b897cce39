// SPDX-License-Identifier: Apache-2.0

// Deadlines in the pool's thread, over one timerfd.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Only in the pool's thread, and not to be destroyed while the pool runs unless Close was called.
class Timers {
 public:
  explicit Timers(Pool& pool) : pool_(pool) {}

  absl::Status Open();
  void Close();

  using Id = std::pair<std::int64_t, std::uint64_t>;  // when it is due, and a number
  // Calls `task` once, `after` from now.
  Id Add(std::chrono::nanoseconds after, std::function<void()> task);
  // Does nothing when it is over.
  void Cancel(Id id) { due_.erase(id); }

 private:
  void Arm();
  void Expire();

  Pool& pool_;
  UniqueFd fd_;
  Pool::WatchId watch_ = 0;
  std::int64_t armed_ns_ = 0;  // when it wakes, perhaps for nothing; 0: it does not
  std::uint64_t added_ = 0;
  std::map<Id, std::function<void()>> due_;  // CLOCK_MONOTONIC, ns
};

}  // namespace brood
