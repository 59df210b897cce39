#include "pool/daemon/timers.h"

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "spawn/reap.h"
#include "spawn/status.h"

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

void Timers::Arm() {
  constexpr std::int64_t kSecond = 1'000'000'000;
  itimerspec when{};
  if (!due_.empty()) {
    const std::int64_t at = std::max<std::int64_t>(due_.begin()->first.first, 1);
    when.it_value = {at / kSecond, at % kSecond};
  }
  timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Timers::Expire() {
  std::uint64_t count = 0;
  (void)!read(fd_.get(), &count, sizeof(count));
  const std::int64_t now = NowNs();
  while (!due_.empty() && due_.begin()->first.first <= now) {
    const std::function<void()> task = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    task();
  }
  if (fd_.valid()) Arm();
}

}  // namespace brood
