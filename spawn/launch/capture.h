// SPDX-License-Identifier: Apache-2.0

// Output of a worker, kept up to a limit and counted beyond it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace brood {

class Capture {
 public:
  Capture() = default;
  explicit Capture(std::size_t limit) : limit_(limit) {}

  void Append(std::string_view bytes) {
    total_ += bytes.size();
    const std::size_t room = limit_ - kept_.size();
    kept_.append(bytes.substr(0, room));
  }
  std::uint64_t total() const { return total_; }
  // The first bytes, up to the limit; leaves the capture empty.
  std::string Take() { return std::move(kept_); }

 private:
  std::size_t limit_ = 0;
  std::uint64_t total_ = 0;
  std::string kept_;
};

}  // namespace brood
