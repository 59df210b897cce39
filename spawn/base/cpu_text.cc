// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/cpu_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "spawn/base/status.h"

namespace brood {

absl::StatusOr<std::string> CpuMaxText(double cpus, std::optional<std::uint64_t> period_us) {
  constexpr std::uint64_t kUsualPeriod = 100'000;
  constexpr std::uint64_t kLeast = 1'000;  // of quota and period alike
  constexpr std::uint64_t kLongestPeriod = 1'000'000;
  if (!(cpus * kLongestPeriod >= kLeast) || !(cpus <= 1e6)) {
    return InvalidError(
        "limiting cpu to {} cpus: the kernel takes no less than 0.001 (1 ms in 1 s), and "
        "a million is the most",
        cpus);
  }
  if (period_us && (*period_us < kLeast || *period_us > kLongestPeriod)) {
    return InvalidError("a cpu period of {} us is outside the kernel's 1 ms to 1 s", *period_us);
  }
  const auto quota = [&](std::uint64_t period) {
    return static_cast<std::uint64_t>(std::llround(cpus * static_cast<double>(period)));
  };
  const std::uint64_t period =
      period_us.value_or(quota(kUsualPeriod) >= kLeast ? kUsualPeriod : kLongestPeriod);
  if (quota(period) < kLeast) {
    return InvalidError(
        "{} cpus of a period of {} us are {} us, and the kernel gives no less than 1000: "
        "use a longer period",
        cpus, period, quota(period));
  }
  return fmt::format("{} {}", quota(period), period);
}

absl::StatusOr<std::vector<std::uint32_t>> ParseCpuList(std::string_view text) {
  constexpr std::uint32_t kLargest = 65'535;
  const auto bad = [&] {
    return InvalidError("\"{}\" is not a list of numbers: write it as 0-3,7", text);
  };
  std::vector<std::uint32_t> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::uint32_t first = 0;
    auto [next, error] = std::from_chars(at, end, first);
    if (error != std::errc()) return bad();
    std::uint32_t last = first;
    if (next != end && *next == '-') {
      const auto range = std::from_chars(next + 1, end, last);
      if (range.ec != std::errc()) return bad();
      next = range.ptr;
    }
    if (first > last || last > kLargest) return bad();
    for (std::uint32_t number = first; number <= last; ++number) numbers.push_back(number);
    if (numbers.size() > std::size_t{2} * kLargest) return bad();
    if (next == end) break;
    if (*next != ',') return bad();
    at = next + 1;
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

}  // namespace brood
