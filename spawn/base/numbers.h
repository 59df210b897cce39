// SPDX-License-Identifier: Apache-2.0

// Numbers in the kernel's texts. Those of a string are pure; those of a file know none where it
// cannot be read. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

// The text as a number, all of it; none for one that is too large, too.
std::optional<std::uint64_t> ParseNumber(std::string_view text);

// The number that it begins with, behind blanks; none for "max".
std::optional<std::uint64_t> FirstNumber(std::string_view text);
std::optional<std::uint64_t> FirstNumberOf(const std::string& path);

// The number behind `key` in lines "key number", as in memory.events, /proc/meminfo ("MemFree:")
// and /proc/PID/status; `base` 16 for its masks.
std::optional<std::uint64_t> NumberBehind(std::string_view text, std::string_view key,
                                          int base = 10);

// The entries of a directory that are numbers, in no order: processes in /proc, descriptors in
// /proc/self/fd. Empty where it cannot be opened; errno tells why.
std::vector<int> NumbersIn(const std::string& directory);

}  // namespace brood
