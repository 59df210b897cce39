// SPDX-License-Identifier: Apache-2.0

#include "pool/core/timers.h"

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {

absl::Status Timers::Open() {
  fd_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!fd_.valid()) return ErrnoError(errno, "making a timer");
  BROOD_ASSIGN_OR_RETURN(watch_, pool_.Watch(fd_.get(), POLLIN, [this](short) { Expire(); }));
  return absl::OkStatus();
}

void Timers::Close() {
  if (!fd_.valid()) return;
  pool_.Unwatch(watch_);
  fd_.reset();
  armed_ns_ = 0;
  due_.clear();
}

Timers::Id Timers::Add(std::chrono::nanoseconds after, std::function<void()> task) {
  // A client may ask for more than there is time.
  const std::int64_t now = NowNs();
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() - now;
  const Id id{now + std::clamp<std::int64_t>(after.count(), 0, most), ++added_};
  due_.emplace(id, std::move(task));
  Arm();
  return id;
}

// Most tasks are cancelled long before they are due: a timer that stands earlier than need be is
// left so, and wakes for nothing once, instead of being set twice for each of them.
void Timers::Arm() {
  if (due_.empty()) return;
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t at = std::max<std::int64_t>(due_.begin()->first.first, 1);
  if (armed_ns_ != 0 && armed_ns_ <= at) return;
  itimerspec when{};
  when.it_value = {at / kSecond, at % kSecond};
  timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
  armed_ns_ = at;
}

void Timers::Expire() {
  std::uint64_t count = 0;
  (void)!read(fd_.get(), &count, sizeof(count));
  armed_ns_ = 0;
  const std::int64_t now = NowNs();
  while (!due_.empty() && due_.begin()->first.first <= now) {
    const std::function<void()> task = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    task();
  }
  if (fd_.valid()) Arm();
}

}  // namespace brood
