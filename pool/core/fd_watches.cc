// SPDX-License-Identifier: Apache-2.0

#include "pool/core/fd_watches.h"

#include <poll.h>

#include <utility>

#include "spawn/base/status.h"

namespace brood {

absl::StatusOr<Pool::WatchId> FdWatches::Watch(int fd, short events,
                                               std::function<void(short)> ready) {
  if (free_.empty()) {
    entries_.emplace_back();
    free_.push_back(static_cast<std::uint32_t>(entries_.size() - 1));
  }
  const std::uint32_t index = free_.back();
  Entry& entry = entries_[index];
  BROOD_RETURN_IF_ERROR(ring_.Await(fd, events, TokenOf(entry, index)));
  free_.pop_back();
  entry.fd = fd;
  entry.events = events;
  entry.ready = std::make_shared<const std::function<void(short)>>(std::move(ready));
  return std::uint64_t{entry.generation} << 32 | index;
}

void FdWatches::Unwatch(Pool::WatchId id) {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= entries_.size() || entries_[index].generation != id >> 32) return;
  Entry& entry = entries_[index];
  if (entry.ready == nullptr) return;
  ring_.Cancel(TokenOf(entry, index));
  ++entry.generation;
  entry.ready.reset();
  free_.push_back(index);
}

void FdWatches::OnReady(const Completion& completion) {
  const Token token = completion.token;
  const Entry& entry = entries_[token.index];
  const auto current = [&] {
    return (entry.generation & 0xffffff) == token.generation && entry.ready != nullptr;
  };
  if (!current()) return;
  const auto ready = entry.ready;  // it may be unwatched by what it calls
  (*ready)(completion.result < 0 ? static_cast<short>(POLLERR)
                                 : static_cast<short>(completion.result));
  if (current()) (void)ring_.AwaitAgain(entry.fd, entry.events, token);
}

}  // namespace brood
