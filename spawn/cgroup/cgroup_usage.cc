// SPDX-License-Identifier: Apache-2.0

#include "spawn/cgroup/cgroup_usage.h"

#include <algorithm>
#include <utility>

#include "spawn/base/numbers.h"
#include "spawn/cgroup/cgroup_tree.h"

namespace brood {
namespace {

// Empty when it cannot be read: then no number is found in it.
std::string ReadText(int parent, const std::string& path) {
  std::string text;
  if (ReadFileAt(parent, path.c_str(), text) != 0) text.clear();
  return text;
}

}  // namespace

LeafUsage ReadUsage(int parent, const std::string& name) {
  LeafUsage usage;
  const std::string cpu = ReadText(parent, name + "/cpu.stat");
  usage.cpu_us = NumberBehind(cpu, "usage_usec");
  usage.cpu_periods = NumberBehind(cpu, "nr_periods");
  usage.cpu_throttled_periods = NumberBehind(cpu, "nr_throttled");
  usage.cpu_throttled_us = NumberBehind(cpu, "throttled_usec");
  usage.memory_peak_bytes = FirstNumber(ReadText(parent, name + "/memory.peak"));
  const std::string memory = ReadText(parent, name + "/memory.events");
  usage.memory_high_events = NumberBehind(memory, "high");
  usage.oom_events = NumberBehind(memory, "oom");
  usage.oom_kills = NumberBehind(memory, "oom_kill");
  usage.oom_group_kills = NumberBehind(memory, "oom_group_kill");
  usage.pids_peak = FirstNumber(ReadText(parent, name + "/pids.peak"));
  usage.pids_refused = NumberBehind(ReadText(parent, name + "/pids.events"), "max");
  std::string io;
  if (ReadFileAt(parent, (name + "/io.stat").c_str(), io) == 0) usage.io = ParseIoStat(io);
  return usage;
}

IoUsage ParseIoStat(std::string_view text) {
  IoUsage sum;
  const std::pair<std::string_view, std::uint64_t*> keys[] = {{"rbytes=", &sum.read_bytes},
                                                              {"wbytes=", &sum.write_bytes},
                                                              {"rios=", &sum.read_ops},
                                                              {"wios=", &sum.write_ops}};
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    for (const auto& [key, total] : keys) {
      if (word.starts_with(key)) *total += ParseNumber(word.substr(key.size())).value_or(0);
    }
  }
  return sum;
}

}  // namespace brood
