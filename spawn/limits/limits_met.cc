// SPDX-License-Identifier: Apache-2.0

#include "spawn/limits/limits_met.h"

#include <array>
#include <cstdint>
#include <string_view>

#include "spawn/base/status.h"

namespace brood {
namespace {

// "64 MiB", "1.5 GiB", "4095 bytes".
std::string SizeText(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double size = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (size >= 1024 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  return fmt::format("{:.4g} {}", size, kUnits[unit]);
}

std::string MemorySentence(const Limits& limits, const Outcome& outcome, OomCause cause) {
  const std::string_view killed =
      outcome.end == End::kOom ? "it was killed" : "processes of it were killed";
  const std::string own =
      limits.memory_bytes ? fmt::format(" ({}, memory.max)", SizeText(*limits.memory_bytes)) : "";
  if (cause == OomCause::kOwnLimit && limits.memory_bytes) {
    return fmt::format("its own memory limit{} was reached, and {}", own, killed);
  }
  if (cause == OomCause::kOwnLimit) {
    return fmt::format("a memory limit in its own cgroup was reached, and {}", killed);
  }
  return fmt::format(
      "{} for memory, and not by {}: a cgroup above it, or the machine, had none left", killed,
      own.empty() ? "a limit of its own" : "its own limit" + own);
}

// Until Linux 6.10 pids.events counts refusals where the fork was tried, whoever's limit it was; a
// peak below the own limit then tells that it was another's.
std::string PidsSentence(const Limits& limits, const LeafUsage& usage) {
  const std::uint64_t refused = *usage.pids_refused;
  const std::string forks = fmt::format("{} {} refused", refused, refused == 1 ? "fork" : "forks");
  if (limits.pids && usage.pids_peak.value_or(*limits.pids) >= *limits.pids) {
    return fmt::format("its own pids limit ({}, pids.max) was reached: {}", *limits.pids, forks);
  }
  return fmt::format("the pids limit of a cgroup above its own was reached: {}", forks);
}

}  // namespace

std::vector<std::string> LimitsMet(const Limits& limits, const Outcome& outcome) {
  const LeafUsage& usage = outcome.usage;
  std::vector<std::string> sentences;
  if (const std::optional<OomCause> cause = CauseOfOom(usage)) {
    sentences.push_back(MemorySentence(limits, outcome, *cause));
  }
  if (usage.pids_refused.value_or(0) > 0) sentences.push_back(PidsSentence(limits, usage));
  if (limits.memory_high_bytes && usage.memory_high_events.value_or(0) > 0) {
    sentences.push_back(fmt::format("memory.high ({}) was passed {} times, and slowed it down",
                                    SizeText(*limits.memory_high_bytes),
                                    *usage.memory_high_events));
  }
  if (limits.cpus && usage.cpu_throttled_periods.value_or(0) > 0) {
    sentences.push_back(fmt::format(
        "its cpu limit ({} cpus, cpu.max) held it back for {:.1f} s, in {} of {} periods",
        *limits.cpus, static_cast<double>(usage.cpu_throttled_us.value_or(0)) / 1e6,
        *usage.cpu_throttled_periods, usage.cpu_periods.value_or(0)));
  }
  return sentences;
}

}  // namespace brood
