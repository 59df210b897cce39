// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/limit_options.h"

#include <algorithm>
#include <chrono>

#include "pool/cli/values.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// Memory and swap together, as Docker and Podman count, into memory.swap.max.
absl::StatusOr<std::uint64_t> SwapBeside(const Limits& limits, const std::string& text) {
  if (!limits.memory_bytes) {
    return InvalidError("--memory-swap counts memory and swap together: it needs --memory");
  }
  BROOD_ASSIGN_OR_RETURN(const std::uint64_t together, ParseSize(text));
  if (together < *limits.memory_bytes) {
    return InvalidError(
        "--memory-swap {} counts memory and swap together, so it cannot be less than --memory; for "
        "no swap leave it out",
        text);
  }
  return together - *limits.memory_bytes;
}

}  // namespace

void LimitOptions::AddTo(CLI::App& app, const std::string& group) {
  const auto add = [&](const char* name, auto& words, const char* type, const char* text) {
    return app.add_option(name, words, text)->type_name(type)->group(group);
  };
  add("--memory", memory_, "SIZE",
      "memory.max of its cgroup, as 64M: beyond it, all its processes are killed");
  add("--memory-high", memory_high_, "SIZE",
      "memory.high of its cgroup: beyond it, its processes are slowed and memory is reclaimed");
  add("--memory-swap", memory_swap_, "SIZE",
      "Memory and swap together, as in Docker: memory.swap.max is what exceeds --memory (default: "
      "no swap)");
  add("--pids", pids_, "N", "pids.max of its cgroup: processes and threads");
  add("--cpus", cpus_, "N", "cpu.max of its cgroup, as 0.5");
  add("--cpu-period", cpu_period_, "DURATION",
      "Period over which --cpus is enforced, 1ms to 1s (default 100ms)");
  add("--cpu-weight", cpu_weight_, "N",
      "cpu.weight: its share of busy processors, 1 to 10000 (the kernel's default: 100)");
  add("--cpuset-cpus", cpuset_cpus_, "LIST", "cpuset.cpus: the cpus it may use, as 0-3,7");
  add("--cpuset-mems", cpuset_mems_, "LIST", "cpuset.mems: the memory nodes it may use");
  add("--io-max", io_max_, "DISK:KEY=N[,...]",
      "io.max of a disk, as /dev/sda:rbps=10M,wiops=100; rbps and wbps count bytes a second, riops "
      "and wiops operations; DISK is a device, a path on it, or MAJ:MIN; may be given again")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  add("--io-weight", io_weight_, "N",
      "io.weight: its share of a busy disk, 1 to 10000 (the kernel's default: 100)");
}

absl::StatusOr<Limits> LimitOptions::Resolve() const {
  constexpr std::uint64_t kMostPids = 4'194'304;
  constexpr std::uint64_t kMostWeight = 10'000;
  Limits limits;
  if (!memory_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.memory_bytes, ParseSize(memory_));
  }
  if (!memory_high_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.memory_high_bytes, ParseSize(memory_high_));
  }
  if (!memory_swap_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.swap_bytes, SwapBeside(limits, memory_swap_));
  }
  if (!pids_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.pids, ParseCount("--pids", pids_, 1, kMostPids));
  }
  if (!cpus_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.cpus, ParseCpus(cpus_));
  }
  if (!cpu_period_.empty()) {
    BROOD_ASSIGN_OR_RETURN(const std::chrono::nanoseconds period, ParseDuration(cpu_period_));
    limits.cpu_period_us = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(period).count());
  }
  if (!cpu_weight_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.cpu_weight,
                           ParseCount("--cpu-weight", cpu_weight_, 1, kMostWeight));
  }
  limits.cpuset_cpus = cpuset_cpus_;
  limits.cpuset_mems = cpuset_mems_;
  for (const std::string& word : io_max_) {
    BROOD_ASSIGN_OR_RETURN(const IoLimit limit, ParseIoMax(word));
    const auto same = [&](const IoLimit& other) {
      return other.major == limit.major && other.minor == limit.minor;
    };
    if (std::any_of(limits.io.begin(), limits.io.end(), same)) {
      return InvalidError("--io-max limits the disk {}:{} twice: put all keys into one",
                          limit.major, limit.minor);
    }
    limits.io.push_back(limit);
  }
  if (!io_weight_.empty()) {
    BROOD_ASSIGN_OR_RETURN(limits.io_weight, ParseCount("--io-weight", io_weight_, 1, kMostWeight));
  }
  return limits;
}

}  // namespace brood
