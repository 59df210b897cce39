// SPDX-License-Identifier: Apache-2.0

#include "pool/core/idle_list.h"

namespace brood {

std::optional<IdleList::Entry> IdleList::TakeForCaller(std::uint32_t window) {
  const std::lock_guard lock(mutex_);
  if (closed_ || entries_.empty() || !may_launch_ || launching_ + underway_ >= window) {
    return std::nullopt;
  }
  const Entry entry = entries_.back();
  entries_.pop_back();
  ++underway_;
  return entry;
}

void IdleList::Put(Entry entry) {
  const std::lock_guard lock(mutex_);
  entries_.push_back(entry);
}

std::optional<IdleList::Entry> IdleList::Take() {
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  const Entry entry = entries_.back();
  entries_.pop_back();
  return entry;
}

std::size_t IdleList::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

void IdleList::Sweep(const std::function<bool(std::uint32_t)>& gone) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return gone(entry.worker); });
}

void IdleList::Report(bool may_launch, std::size_t launching) {
  const std::lock_guard lock(mutex_);
  may_launch_ = may_launch;
  launching_ = launching;
}

void IdleList::Arrived() {
  const std::lock_guard lock(mutex_);
  --underway_;
}

void IdleList::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool IdleList::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

std::uint32_t IdleList::underway() const {
  const std::lock_guard lock(mutex_);
  return underway_;
}

}  // namespace brood
