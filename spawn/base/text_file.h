// SPDX-License-Identifier: Apache-2.0

// A small file's text.
#pragma once

#include <array>
#include <cstddef>
#include <fstream>
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

}  // namespace brood
