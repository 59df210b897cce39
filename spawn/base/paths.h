// SPDX-License-Identifier: Apache-2.0

// Where one path lies to another. Both are absolute, without "." and ".." and without a slash at
// the end. Pure.
#pragma once

#include <string_view>

namespace brood {

// Whether `path` is `directory` or lies below it.
inline bool IsUnder(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

// `path` as seen from `directory`, which it is under: "b/c"; empty where they are the same.
inline std::string_view PathBelow(std::string_view path, std::string_view directory) {
  std::string_view below = path.substr(directory.size());
  while (below.starts_with('/')) below.remove_prefix(1);
  return below;
}

}  // namespace brood
