#include "pool/shelf.h"

namespace brood {

std::optional<Shelf::Entry> Shelf::TakeForCaller(std::uint32_t window) {
  const std::lock_guard lock(mutex_);
  if (closed_ || entries_.empty() || !may_launch_ || launching_ + underway_ >= window) {
    return std::nullopt;
  }
  const Entry entry = entries_.back();
  entries_.pop_back();
  ++underway_;
  return entry;
}

void Shelf::Put(Entry entry) {
  const std::lock_guard lock(mutex_);
  entries_.push_back(entry);
}

std::optional<Shelf::Entry> Shelf::Take() {
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  const Entry entry = entries_.back();
  entries_.pop_back();
  return entry;
}

std::size_t Shelf::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

void Shelf::Sweep(const std::function<bool(std::uint32_t)>& gone) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return gone(entry.worker); });
}

void Shelf::Report(bool may_launch, std::size_t launching) {
  const std::lock_guard lock(mutex_);
  may_launch_ = may_launch;
  launching_ = launching;
}

void Shelf::Arrived() {
  const std::lock_guard lock(mutex_);
  --underway_;
}

void Shelf::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool Shelf::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

std::uint32_t Shelf::underway() const {
  const std::lock_guard lock(mutex_);
  return underway_;
}

}  // namespace brood
