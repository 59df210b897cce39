// SPDX-License-Identifier: Apache-2.0

#include "pool/core/inbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "spawn/base/status.h"

namespace brood {

absl::Status Inbox::Open() {
  event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_.valid()) return ErrnoError(errno, "making an eventfd for the pool");
  return absl::OkStatus();
}

// Called with the mutex held, so that `signalled_` and the eventfd cannot disagree.
void Inbox::Signal() {
  if (std::exchange(signalled_, true)) return;
  const std::uint64_t one = 1;
  (void)!write(event_.get(), &one, sizeof(one));
}

bool Inbox::Put(std::unique_ptr<ActiveRequest> request) {
  if (InOwnThread()) {
    if (closed_ && !request->launched) return false;
    own_.requests.push_back(std::move(request));
    return true;
  }
  const std::lock_guard lock(mutex_);
  // One that has a worker already must arrive: the pool waits for it (IdleList::underway).
  if (closed_ && !request->launched) return false;
  contents_.requests.push_back(std::move(request));
  Signal();
  return true;
}

bool Inbox::Put(Task task) {
  if (InOwnThread()) {
    if (closed_) return false;
    own_.tasks.push_back(std::move(task));
    return true;
  }
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  contents_.tasks.push_back(std::move(task));
  Signal();
  return true;
}

void Inbox::Put(Used used) {
  if (InOwnThread()) return own_.used.push_back(std::move(used));
  const std::lock_guard lock(mutex_);
  contents_.used.push_back(std::move(used));
  Signal();
}

void Inbox::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  Signal();
}

Inbox::Contents Inbox::Take() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(signalled_, false)) {
    std::uint64_t count = 0;
    (void)!read(event_.get(), &count, sizeof(count));
  }
  Contents taken = std::exchange(contents_, Contents{});
  // After those of others, which may have waited longer.
  std::move(own_.requests.begin(), own_.requests.end(), std::back_inserter(taken.requests));
  std::move(own_.tasks.begin(), own_.tasks.end(), std::back_inserter(taken.tasks));
  std::move(own_.used.begin(), own_.used.end(), std::back_inserter(taken.used));
  own_.requests.clear();
  own_.tasks.clear();
  own_.used.clear();
  return taken;
}

}  // namespace brood
