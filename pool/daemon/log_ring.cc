// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/log_ring.h"

#include <algorithm>

namespace brood {
namespace {

// Small writes are joined up to this size: a chunk costs more than its bytes.
constexpr std::size_t kChunkBytes = 4096;

}  // namespace

void LogRing::Append(std::uint8_t stream, std::string_view bytes) {
  if (bytes.size() > capacity_) {
    end_ += bytes.size() - capacity_;
    bytes.remove_prefix(bytes.size() - capacity_);
    chunks_.clear();
    kept_ = 0;
  }
  while (!bytes.empty()) {
    // A gap, or the other stream, begins a chunk.
    if (chunks_.empty() || chunks_.back().stream != stream ||
        chunks_.back().bytes.size() >= kChunkBytes ||
        chunks_.back().at + chunks_.back().bytes.size() != end_) {
      chunks_.push_back({end_, stream, {}});
    }
    Chunk& last = chunks_.back();
    const std::string_view part = bytes.substr(0, kChunkBytes - last.bytes.size());
    last.bytes.append(part);
    bytes.remove_prefix(part.size());
    end_ += part.size();
    kept_ += part.size();
  }
  while (kept_ > capacity_) {
    Chunk& first = chunks_.front();
    const std::size_t extra = std::min(kept_ - capacity_, first.bytes.size());
    kept_ -= extra;
    if (extra == first.bytes.size()) {
      chunks_.pop_front();
    } else {
      first.bytes.erase(0, extra);
      first.at += extra;
    }
  }
}

std::optional<LogRing::Part> LogRing::Read(std::uint64_t& position) const {
  const auto next = std::partition_point(chunks_.begin(), chunks_.end(), [&](const Chunk& chunk) {
    return chunk.at + chunk.bytes.size() <= position;
  });
  if (next == chunks_.end()) return std::nullopt;
  Part part;
  part.stream = next->stream;
  part.lost = next->at > position ? next->at - position : 0;
  part.bytes = std::string_view(next->bytes)
                   .substr(static_cast<std::size_t>(position > next->at ? position - next->at : 0));
  position = next->at + next->bytes.size();
  return part;
}

}  // namespace brood
