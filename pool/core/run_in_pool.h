// SPDX-License-Identifier: Apache-2.0

// Doing something in a pool's thread, and waiting for it.
#pragma once

#include <functional>
#include <future>

#include "absl/status/status.h"
#include "pool/pool.h"
#include "spawn/base/status.h"

namespace brood {

// Runs `task` in the pool's thread and returns what it returned. Not to be called in that thread.
// kUnavailable when the pool is shut down.
inline absl::Status RunInPool(Pool& pool, const std::function<absl::Status()>& task) {
  std::promise<absl::Status> done;
  if (!pool.Post([&] { done.set_value(task()); })) {
    return Error(absl::StatusCode::kUnavailable, "the pool is shut down");
  }
  return done.get_future().get();
}

}  // namespace brood
