// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/without.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "absl/strings/str_split.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr WayName kWays[] = {
    {Way::kCgroupKill, "cgroup_kill", "cgroup.kill", "signals to one process after the other"},
    {Way::kEmptyMounts, "empty_mounts", "a mount namespace that is born empty",
     "a copy of the host's mounts"},
    {Way::kExecTime, "exec_time", "a time namespace entered by exec", "a birth into it"},
    {Way::kIdmap, "idmap", "idmapped mounts", "files that show nobody as their owner"},
    {Way::kMknod, "mknod", "device nodes of its own", "the host's device nodes, one mount each"},
    {Way::kPidfdInfo, "pidfd_info", "exit codes from pidfds", "those of waitid alone"},
    {Way::kUring, "io_uring", "io_uring", "epoll"},
};

const std::vector<std::string>& Words() {
  static const std::vector<std::string> words = [] {
    const char* const value = std::getenv(kWithoutVariable);
    return std::vector<std::string>(
        absl::StrSplit(value == nullptr ? "" : value, ',', absl::SkipWhitespace()));
  }();
  return words;
}

bool Named(const WayName& facts) {
  return std::any_of(Words().begin(), Words().end(), [&](const std::string& word) {
    return word == facts.name || word == kAllWays;
  });
}

// Those that tell of themselves where they are missed.
bool TellsItself(Way way) { return way == Way::kIdmap || way == Way::kUring; }

}  // namespace

std::span<const WayName> AllWays() { return kWays; }

bool Without(Way way) {
  return std::any_of(std::begin(kWays), std::end(kWays),
                     [&](const WayName& each) { return each.way == way && Named(each); });
}

std::vector<Fallback> WaysTakenAway() {
  std::vector<Fallback> fallbacks;
  for (const WayName& each : kWays) {
    if (TellsItself(each.way) || !Named(each)) continue;
    fallbacks.push_back(
        {std::string(each.wanted), fmt::format("{}: {} says so", each.used, kWithoutVariable), 0});
  }
  return fallbacks;
}

absl::Status CheckWithout() {
  for (const std::string& word : Words()) {
    const auto is_it = [&](const WayName& each) { return each.name == word; };
    if (word == kAllWays || std::any_of(std::begin(kWays), std::end(kWays), is_it)) continue;
    std::string names;
    for (const WayName& each : kWays) {
      names += (names.empty() ? "" : ", ") + std::string(each.name);
    }
    return InvalidError("{} names \"{}\", which brood knows nothing of: it may name {}, or {}",
                        kWithoutVariable, word, names, kAllWays);
  }
  return absl::OkStatus();
}

}  // namespace brood
