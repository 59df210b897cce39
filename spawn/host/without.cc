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
    {Way::kCgroupKill, "cgroup_kill", "cgroup.kill", "a signal to each process in turn"},
    {Way::kEmptyMounts, "empty_mounts", "a mount namespace that starts empty",
     "a copy of the host's mounts"},
    {Way::kExecTime, "exec_time", "a time namespace entered by exec", "a clone into it"},
    {Way::kIdmap, "idmap", "idmapped mounts", "files whose owner shows as nobody"},
    {Way::kMknod, "mknod", "device nodes of its own", "the host's device nodes, one mount each"},
    {Way::kPidfdInfo, "pidfd_info", "exit codes from pidfds", "only those of waitid"},
    {Way::kSlots, "slots", "namespaces used again", "new ones for each worker"},
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
    return InvalidError("{} has \"{}\", which brood does not know; it may have {}, or {}",
                        kWithoutVariable, word, names, kAllWays);
  }
  return absl::OkStatus();
}

}  // namespace brood
