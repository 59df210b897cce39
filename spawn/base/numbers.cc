// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/numbers.h"

#include <dirent.h>

#include <charconv>
#include <limits>
#include <memory>
#include <system_error>

#include "spawn/base/split.h"
#include "spawn/base/text_file.h"

namespace brood {
namespace {

// The number at the beginning of `text`, which becomes what is behind it.
std::optional<std::uint64_t> TakeNumber(std::string_view& text, int base) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

std::string_view WithoutBlanks(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  return text;
}

}  // namespace

std::optional<std::uint64_t> ParseNumber(std::string_view text) {
  const std::optional<std::uint64_t> number = TakeNumber(text, 10);
  return text.empty() ? number : std::nullopt;
}

std::optional<std::uint64_t> FirstNumber(std::string_view text) {
  text = WithoutBlanks(text);
  return TakeNumber(text, 10);
}

std::optional<std::uint64_t> FirstNumberOf(const std::string& path) {
  return FirstNumber(TextOf(path));
}

std::optional<std::uint64_t> NumberBehind(std::string_view text, std::string_view key, int base) {
  for (const std::string_view line : Split(text, '\n')) {
    if (!line.starts_with(key)) continue;
    const std::string_view behind = line.substr(key.size());
    std::string_view value = WithoutBlanks(behind);
    if (value.size() == behind.size()) continue;  // the key goes on
    return TakeNumber(value, base);
  }
  return std::nullopt;
}

std::vector<int> NumbersIn(const std::string& directory) {
  std::vector<int> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(directory.c_str()), closedir);
  if (open == nullptr) return numbers;
  while (const dirent* entry = readdir(open.get())) {
    const std::optional<std::uint64_t> number = ParseNumber(entry->d_name);
    if (number && *number <= std::numeric_limits<int>::max()) {
      numbers.push_back(static_cast<int>(*number));
    }
  }
  return numbers;
}

}  // namespace brood
