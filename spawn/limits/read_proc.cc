// SPDX-License-Identifier: Apache-2.0

// Reading the numbers that limits are made of.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "spawn/base/text_file.h"
#include "spawn/limits/readings.h"

namespace brood {
namespace internal {

// The first number in a file; none for "max", and where there is no file.
std::optional<std::uint64_t> Number(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

// The number behind `key` in a file of "key number" lines.
std::optional<std::uint64_t> Keyed(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::uint64_t number = 0;
    if (word == key && file >> number) return number;
  }
  return std::nullopt;
}

bool IsNumber(const std::string& name) {
  return !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
}

// The entries of a directory that are numbers, as of /proc and /proc/PID/fd. `error` tells why
// there are none.
std::vector<std::uint64_t> Numbers(const std::string& directory, std::error_code& error) {
  std::vector<std::uint64_t> numbers;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (IsNumber(name)) numbers.push_back(std::stoull(name));
  }
  return numbers;
}
std::vector<std::uint64_t> Numbers(const std::string& directory) {
  std::error_code ignored;
  return Numbers(directory, ignored);
}

namespace {

std::string Doubled(std::optional<std::uint64_t> maximum) {
  return maximum && *maximum > 0 ? std::to_string(*maximum * 2) : "N";
}

}  // namespace

LimitReading Sysctl(const LimitQuestion& question, const std::string& name, std::string what) {
  std::string path = "/sys/" + name;
  std::replace(path.begin(), path.end(), '.', '/');
  LimitReading reading{.name = name, .what = std::move(what), .where = "/proc" + path};
  reading.maximum = Number(question.proc + path);
  reading.raise = fmt::format("sysctl -w {}={}", name, Doubled(reading.maximum));
  return reading;
}

}  // namespace internal

std::uint64_t MeminfoBytes(std::string_view key) {
  return internal::Keyed("/proc/meminfo", key).value_or(0) * 1024;
}

// From "0.1 0.2 0.3 RUNNING/ALL LAST".
std::optional<std::uint64_t> MachineThreads(const std::string& proc) {
  const std::string text = TextOf(proc + "/loadavg");
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return std::nullopt;
  std::uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data() + slash + 1, text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

}  // namespace brood
