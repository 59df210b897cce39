// SPDX-License-Identifier: Apache-2.0

// Cutting a text into pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

namespace brood {

// Cuts `text` at each `separator`, without empty pieces. The pieces point into `text`.
inline std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) pieces.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pieces;
}

// The same with empty pieces, as in lines of /etc/passwd.
inline std::vector<std::string_view> SplitAll(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  for (std::size_t end = 0; end != std::string_view::npos;) {
    end = text.find(separator);
    fields.push_back(text.substr(0, end));
    text.remove_prefix(std::min(fields.back().size() + 1, text.size()));
  }
  return fields;
}

}  // namespace brood
