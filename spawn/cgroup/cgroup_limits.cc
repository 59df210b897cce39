// SPDX-License-Identifier: Apache-2.0

#include "spawn/cgroup/cgroup_limits.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <iterator>
#include <sstream>

#include "spawn/base/cpu_text.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup_tree.h"

namespace brood {
namespace {

constexpr auto kNotHere = absl::StatusCode::kFailedPrecondition;

bool HasController(int parent, const std::string& name, std::string_view controller) {
  std::string text;
  if (ReadFileAt(parent, (name + "/cgroup.controllers").c_str(), text) != 0) return false;
  std::istringstream words(text);
  return std::find(std::istream_iterator<std::string>(words), {}, controller) !=
         std::istream_iterator<std::string>();
}

absl::Status WriteLimit(int parent, const std::string& name, std::string_view file,
                        std::string_view value) {
  const std::string path = fmt::format("{}/{}", name, file);
  const int error = WriteFileAt(parent, path.c_str(), value);
  if (error == 0) return absl::OkStatus();
  if (error == ENOENT && HasController(parent, name, file.substr(0, file.find('.')))) {
    return Error(kNotHere,
                 "limiting the cgroup {}/{}: this kernel has no {}, though it has the controller; "
                 "drop the limit, or use a kernel built with it",
                 PathOfFd(parent), name, file);
  }
  if (error == ENOENT) {
    return Error(
        kNotHere,
        "limiting the cgroup {}/{}: it has no {}, because its parent cgroup was not made for that "
        "controller; name the limit when the parent cgroup is made",
        PathOfFd(parent), name, file);
  }
  if (error == ENODEV && file == "io.max") {
    return Error(kNotHere,
                 "writing {} to {}/{}: {}; there is no such disk, or it is a partition: name the "
                 "whole disk (lsblk lists them)",
                 value, PathOfFd(parent), path, ErrnoText(error));
  }
  return ErrnoError(error, "writing {} to {}/{}", value, PathOfFd(parent), path);
}

absl::Status WriteLimit(int parent, const std::string& name, std::string_view file,
                        const std::optional<std::uint64_t>& value) {
  return value ? WriteLimit(parent, name, file, std::to_string(*value)) : absl::OkStatus();
}

absl::Status WriteMemoryLimits(int parent, const std::string& name, const Limits& limits) {
  if (!limits.memory_bytes && !limits.memory_high_bytes && !limits.swap_bytes) {
    return absl::OkStatus();
  }
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "memory.max", limits.memory_bytes));
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "memory.high", limits.memory_high_bytes));
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "memory.oom.group", "1"));
  if (!limits.memory_bytes && !limits.swap_bytes) return absl::OkStatus();
  // Only a kernel built with swap accounting has this file; one without it cannot promise any.
  const std::string swap = std::to_string(limits.swap_bytes.value_or(0));
  const int error = WriteFileAt(parent, (name + "/memory.swap.max").c_str(), swap);
  if (error == 0 || (error == ENOENT && swap == "0")) return absl::OkStatus();
  return ErrnoError(error, "writing {} to {}/{}/memory.swap.max", swap, PathOfFd(parent), name);
}

// The kernel takes any numbers and then uses those of them that the cgroups above have, or all that
// these have when none is left: what is in effect has to be looked at.
absl::Status WriteCpuset(int parent, const std::string& name, std::string_view file,
                         const std::string& list) {
  if (list.empty()) return absl::OkStatus();
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, file, list));
  std::string text;
  const std::string effective = fmt::format("{}/{}.effective", name, file);
  if (const int error = ReadFileAt(parent, effective.c_str(), text); error != 0) {
    return ErrnoError(error, "reading {}/{}", PathOfFd(parent), effective);
  }
  text.erase(text.find_last_not_of('\n') + 1);
  BROOD_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> wanted, ParseCpuList(list));
  const absl::StatusOr<std::vector<std::uint32_t>> had = ParseCpuList(text);
  if (had.ok() && *had == wanted) return absl::OkStatus();
  return Error(
      kNotHere,
      "limiting the cgroup {}/{} to {} {}: of these it would have {}; the cgroups above it "
      "allow no others (see their {}.effective), or they are not online",
      PathOfFd(parent), name, file, list, text.empty() ? "none" : text, file);
}

}  // namespace

std::string IoMaxText(const IoLimit& limit) {
  std::string text = fmt::format("{}:{}", limit.major, limit.minor);
  const std::pair<std::string_view, const std::optional<std::uint64_t>*> rates[] = {
      {"rbps", &limit.read_bytes},
      {"wbps", &limit.write_bytes},
      {"riops", &limit.read_ops},
      {"wiops", &limit.write_ops}};
  for (const auto& [key, rate] : rates) {
    if (*rate) fmt::format_to(std::back_inserter(text), " {}={}", key, **rate);
  }
  return text;
}

absl::Status WriteLimits(int parent, const std::string& name, const Limits& limits) {
  BROOD_RETURN_IF_ERROR(WriteMemoryLimits(parent, name, limits));
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "pids.max", limits.pids));
  if (limits.cpus) {
    BROOD_ASSIGN_OR_RETURN(const std::string text, CpuMaxText(*limits.cpus, limits.cpu_period_us));
    BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "cpu.max", text));
  }
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "cpu.weight", limits.cpu_weight));
  // One line a write: the kernel takes no more.
  for (const IoLimit& io : limits.io) {
    BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "io.max", IoMaxText(io)));
  }
  BROOD_RETURN_IF_ERROR(WriteLimit(parent, name, "io.weight", limits.io_weight));
  BROOD_RETURN_IF_ERROR(WriteCpuset(parent, name, "cpuset.cpus", limits.cpuset_cpus));
  return WriteCpuset(parent, name, "cpuset.mems", limits.cpuset_mems);
}

}  // namespace brood
