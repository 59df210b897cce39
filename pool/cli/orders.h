// SPDX-License-Identifier: Apache-2.0

// What other threads ask of one that waits with poll(2).
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Add may be called by any thread; the others by the one that waits.
class Orders {
 public:
  absl::Status Open() {
    fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return fd_.valid() ? absl::OkStatus() : ErrnoError(errno, "making an eventfd");
  }
  // Readable when there is an order.
  int fd() const { return fd_.get(); }

  void Add(std::function<void()> order) {
    {
      const std::lock_guard lock(mutex_);
      orders_.push_back(std::move(order));
    }
    const std::uint64_t one = 1;
    (void)!write(fd_.get(), &one, sizeof(one));
  }

  // Runs those that are there, in their order.
  void Run() {
    std::uint64_t count = 0;
    (void)!read(fd_.get(), &count, sizeof(count));
    std::deque<std::function<void()>> orders;
    {
      const std::lock_guard lock(mutex_);
      orders.swap(orders_);
    }
    for (const auto& order : orders) order();
  }

 private:
  UniqueFd fd_;
  std::mutex mutex_;
  std::deque<std::function<void()>> orders_;
};

}  // namespace brood
