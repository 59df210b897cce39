// SPDX-License-Identifier: Apache-2.0

// The texts of cgroup files that say which processors, and how much of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace brood {

// The text of cpu.max, "QUOTA PERIOD" in microseconds. Without a period of its own it is 100 ms, or
// 1 s (the longest) where the quota would fall below the kernel's least, 1 ms. The quota is rounded
// to the nearest microsecond. kInvalidArgument below 0.001 cpus, above a million, for what is no
// number, and for a period that the kernel would not take. Pure.
absl::StatusOr<std::string> CpuMaxText(double cpus, std::optional<std::uint64_t> period_us = {});

// The numbers in a list as cpuset.cpus and cpuset.mems have it ("0-3,7"), in order and once each.
// kInvalidArgument for anything else, for an empty list, and for numbers above 65,535. Pure.
absl::StatusOr<std::vector<std::uint32_t>> ParseCpuList(std::string_view text);

}  // namespace brood
