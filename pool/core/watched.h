// SPDX-License-Identifier: Apache-2.0

// A descriptor that the pool's thread waits for, or does not for now.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "pool/pool.h"
#include "spawn/base/status.h"

namespace brood {

// Only in the pool's thread. What `ready` uses has to outlive the watch, which does not end by
// itself.
class Watched {
 public:
  explicit Watched(Pool& pool) : pool_(pool) {}

  // Pool::Watch, unless it is watched already.
  absl::Status Start(int fd, short events, std::function<void(short)> ready) {
    if (id_) return absl::OkStatus();
    BROOD_ASSIGN_OR_RETURN(id_, pool_.Watch(fd, events, std::move(ready)));
    return absl::OkStatus();
  }
  // Nothing to do when it is not watched.
  void Stop() {
    if (id_) pool_.Unwatch(*id_);
    id_.reset();
  }
  bool on() const { return id_.has_value(); }

 private:
  Pool& pool_;
  std::optional<Pool::WatchId> id_;
};

}  // namespace brood
