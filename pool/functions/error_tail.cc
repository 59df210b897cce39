// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/error_tail.h"

#include <unistd.h>

#include <array>

namespace brood {

void ErrorTail::Add(std::string_view text) {
  if (tap) tap(text);
  text_ += text;
  if (text_.size() > kKept) text_.erase(0, text_.size() - kKept);
}

bool ErrorTail::Read(int fd) {
  std::array<char, 16384> buffer;
  const ssize_t got = read(fd, buffer.data(), buffer.size());
  if (got > 0) Add({buffer.data(), static_cast<std::size_t>(got)});
  return got != 0;
}

void ErrorTail::ReadRest(int fd) {
  std::array<char, 16384> buffer;
  // A descriptor of the pipe may have been passed on to somebody who writes for ever.
  for (int pieces = 0; pieces < 8; ++pieces) {
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got <= 0) return;
    Add({buffer.data(), static_cast<std::size_t>(got)});
  }
}

}  // namespace brood
