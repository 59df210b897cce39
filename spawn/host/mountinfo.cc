// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/mountinfo.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "spawn/base/split.h"
#include "spawn/base/text_file.h"

namespace brood {
namespace {

// Space, tab, newline and backslash are written as a backslash and three octal digits.
std::string Unescape(std::string_view text) {
  const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      const int code = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      plain.push_back(static_cast<char>(code));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

std::vector<std::string> Strings(std::string_view list) {
  const std::vector<std::string_view> pieces = Split(list, ',');
  return {pieces.begin(), pieces.end()};
}

bool Contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

bool MountLine::has_option(std::string_view option) const { return Contains(options, option); }

bool MountLine::has_super_option(std::string_view option) const {
  return Contains(super_options, option);
}

std::vector<MountLine> ParseMountinfo(std::string_view text) {
  std::vector<MountLine> mounts;
  for (const std::string_view line : Split(text, '\n')) {
    // ID PARENT MAJ:MIN ROOT POINT OPTIONS TAG... - TYPE SOURCE SUPER-OPTIONS
    const std::vector<std::string_view> fields = Split(line, ' ');
    const auto tags = fields.begin() + std::min<std::ptrdiff_t>(6, std::ssize(fields));
    const auto dash = std::find(tags, fields.end(), "-");
    // A file system without a source may have an empty word there.
    if (std::distance(dash, fields.end()) < 3) continue;
    mounts.push_back({.id = std::string(fields[0]),
                      .parent = std::string(fields[1]),
                      .root = Unescape(fields[3]),
                      .point = Unescape(fields[4]),
                      .type = std::string(dash[1]),
                      .options = Strings(fields[5]),
                      .super_options = Strings(fields.back())});
  }
  return mounts;
}

std::vector<MountLine> ReadOwnMounts() { return ParseMountinfo(TextOf("/proc/self/mountinfo")); }

}  // namespace brood
