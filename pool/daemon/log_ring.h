// SPDX-License-Identifier: Apache-2.0

// The latest output of a worker: bounded, both streams in the order in which they were read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace brood {

// Not thread-safe.
class LogRing {
 public:
  explicit LogRing(std::size_t capacity) : capacity_(capacity) {}

  // `stream`: 1 or 2. What is oldest makes room.
  void Append(std::uint8_t stream, std::string_view bytes);

  // Counts bytes that are not kept.
  void Lose(std::size_t bytes) { end_ += bytes; }

  struct Part {
    std::uint8_t stream = 1;
    std::uint64_t lost = 0;  // bytes between the position asked for and these
    std::string_view bytes;  // valid until the next Append
  };
  // The next bytes of one stream from `position` on, which counts the bytes of both streams since
  // the beginning and is moved behind them. None when there is nothing newer.
  std::optional<Part> Read(std::uint64_t& position) const;

  std::uint64_t end() const { return end_; }  // bytes ever appended
  std::size_t kept() const { return kept_; }

 private:
  struct Chunk {
    std::uint64_t at = 0;
    std::uint8_t stream = 1;
    std::string bytes;
  };
  std::size_t capacity_;
  std::size_t kept_ = 0;
  std::uint64_t end_ = 0;
  std::deque<Chunk> chunks_;
};

}  // namespace brood
