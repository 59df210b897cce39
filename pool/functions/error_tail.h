// SPDX-License-Identifier: Apache-2.0

// The last of what a function has written to its stderr, for the log.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace brood {

// Not thread-safe.
class ErrorTail {
 public:
  static constexpr std::size_t kKept = 4096;  // bytes

  void Add(std::string_view text);
  // Takes a piece of what lies in the pipe `fd`, borrowed and not blocking. False at its end.
  bool Read(int fd);
  // Takes all that lies in it, once it has no writer any more.
  void ReadRest(int fd);
  const std::string& text() const { return text_; }
  void Clear() { text_.clear(); }

  // Hears all that is added, whole; may be null.
  std::function<void(std::string_view)> tap;

 private:
  std::string text_;
};

}  // namespace brood
