// SPDX-License-Identifier: Apache-2.0

// A small file's text.
#pragma once

#include <array>
#include <cstddef>
#include <fstream>
#include <optional>
#include <string>

namespace brood {

// All of it; empty when it cannot be opened, and what came before it failed. A process's files in
// /proc fail to be read (ESRCH) once it has ended: an iterator over their buffer throws then.
// Thread-safe.
inline std::string TextOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::array<char, 4096> piece;
  while (file) {
    file.read(piece.data(), piece.size());
    text.append(piece.data(), static_cast<std::size_t>(file.gcount()));
  }
  return text;
}

// The first line, without its end; none when there is none, or it cannot be read. Thread-safe.
inline std::optional<std::string> FirstLineOf(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

}  // namespace brood
