// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace brood {

void CallInput::Add(std::string_view bytes) {
  waiting_ += bytes;
  bytes_ += bytes.size();
}

void CallInput::Open(UniqueFd pipe, bool keep, std::function<void()> writable) {
  pipe_ = std::move(pipe);
  keep_ = keep;
  kept_.clear();
  writable_ = std::move(writable);
}

void CallInput::Write() {
  if (!pipe_.valid()) return;
  std::size_t written = 0;
  while (written < waiting_.size()) {
    const ssize_t count = write(pipe_.get(), waiting_.data() + written, waiting_.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {  // it reads no more, which is its affair
      written = waiting_.size();
      break;
    }
    written += static_cast<std::size_t>(count);
  }
  if (keep_ && kept_.size() <= kMax) kept_.append(waiting_, 0, written);
  waiting_.erase(0, written);
  Watch(!waiting_.empty());
  if (waiting_.empty() && ended_) pipe_.reset();
}

void CallInput::Watch(bool on) {
  if (!on) return watch_.Stop();
  (void)watch_.Start(pipe_.get(), POLLOUT, [writable = writable_](short) { writable(); });
}

void CallInput::Close() {
  Watch(false);
  pipe_.reset();
  waiting_.clear();
}

bool CallInput::Untouched(std::size_t unread) const {
  return !kept_.empty() && kept_.size() <= kMax && unread == kept_.size();
}

void CallInput::Rewind() {
  Watch(false);
  pipe_.reset();
  waiting_.insert(0, std::exchange(kept_, {}));
}

}  // namespace brood
