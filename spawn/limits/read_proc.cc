// SPDX-License-Identifier: Apache-2.0

// Reading the numbers that limits are made of.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "spawn/base/numbers.h"
#include "spawn/base/text_file.h"
#include "spawn/limits/readings.h"

namespace brood {
namespace internal {

namespace {

std::string Doubled(std::optional<std::uint64_t> maximum) {
  return maximum && *maximum > 0 ? std::to_string(*maximum * 2) : "N";
}

}  // namespace

LimitReading Sysctl(const LimitQuestion& question, const std::string& name, std::string what) {
  std::string path = "/sys/" + name;
  std::replace(path.begin(), path.end(), '.', '/');
  LimitReading reading{.name = name, .what = std::move(what), .where = "/proc" + path};
  reading.maximum = FirstNumberOf(question.proc + path);
  reading.raise = fmt::format("sysctl -w {}={}", name, Doubled(reading.maximum));
  return reading;
}

}  // namespace internal

std::uint64_t MeminfoBytes(std::string_view key) {
  return NumberBehind(TextOf("/proc/meminfo"), key).value_or(0) * 1024;
}

// From "0.1 0.2 0.3 RUNNING/ALL LAST".
std::optional<std::uint64_t> MachineThreads(const std::string& proc) {
  const std::string text = TextOf(proc + "/loadavg");
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return std::nullopt;
  return FirstNumber(std::string_view(text).substr(slash + 1));
}

}  // namespace brood
