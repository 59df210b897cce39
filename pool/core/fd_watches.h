// SPDX-License-Identifier: Apache-2.0

// Descriptors of the program around the pool, watched with its ring (Pool::Watch).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/core/ring.h"
#include "pool/pool.h"

namespace brood {

// Belongs to the thread of its ring, which is borrowed.
class FdWatches {
 public:
  explicit FdWatches(Ring& ring) : ring_(ring) {}

  // Calls `ready` with poll(2) events whenever `fd`, borrowed, is ready for `events`, until
  // Unwatch.
  absl::StatusOr<Pool::WatchId> Watch(int fd, short events, std::function<void(short)> ready);
  // May be called by `ready`. Nothing happens for a watch that is over.
  void Unwatch(Pool::WatchId id);

  // What the ring reports of Source::kWatch.
  void OnReady(const Completion& completion);

 private:
  struct Entry {
    int fd = -1;
    short events = 0;
    std::uint32_t generation = 0;
    std::shared_ptr<const std::function<void(short)>> ready;  // null: free
  };
  static Token TokenOf(const Entry& entry, std::uint32_t index) {
    return {Source::kWatch, entry.generation & 0xffffff, index};
  }

  Ring& ring_;
  std::deque<Entry> entries_;
  std::vector<std::uint32_t> free_;
};

}  // namespace brood
