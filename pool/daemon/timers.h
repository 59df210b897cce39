// Deadlines in the pool's thread, over one timerfd.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>

#include "absl/status/status.h"
#include "pool/pool.h"
#include "spawn/unique_fd.h"

namespace brood {

// Only in the pool's thread, and not to be destroyed while the pool runs unless Close was called.
class Timers {
 public:
  explicit Timers(Pool& pool) : pool_(pool) {}

  absl::Status Open();
  void Close();

  // Calls `task` once, `after` from now.
  void Add(std::chrono::nanoseconds after, std::function<void()> task);

 private:
  void Arm();
  void Expire();

  Pool& pool_;
  UniqueFd fd_;
  Pool::WatchId watch_ = 0;
  std::multimap<std::int64_t, std::function<void()>> due_;  // CLOCK_MONOTONIC, ns
};

}  // namespace brood
