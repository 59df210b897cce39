// SPDX-License-Identifier: Apache-2.0

// Words of the command line turned into values: sizes, durations, ids, mounts.
//
// Each function accepts exactly what its comment says; anything else is kInvalidArgument with a
// sentence that names the word and shows a right one.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "spawn/host/user_database.h"
#include "spawn/spec.h"

namespace brood {

// "64M", "1.5G", "64MiB", "4096", "4096B": bytes, with binary K, M, G or T; above zero.
absl::StatusOr<std::uint64_t> ParseSize(std::string_view text);
// "5s", "200ms", "100us", "1.5m", "2h": above zero. A bare number means seconds.
absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text);
// "1000", "1000:1000" or "nobody": ids inside. A group that is not given is the user's own, or
// equals a user that is a number. Names are looked up in `users`.
absl::StatusOr<std::pair<std::uint32_t, std::uint32_t>> ParseUser(std::string_view text,
                                                                  const UserDatabase& users);
// "SRC:DST", "SRC:DST:ro", "SRC:DST:rw".
absl::StatusOr<Bind> ParseBind(std::string_view text);
// "DST" or "DST:SIZE".
absl::StatusOr<Tmpfs> ParseTmpfs(std::string_view text);
// "NOFILE=1024", "NOFILE=1024:4096", "CORE=unlimited".
absl::StatusOr<Rlimit> ParseRlimit(std::string_view text);
// "0.5", "2": cpus, 0.01 and more.
absl::StatusOr<double> ParseCpus(std::string_view text);
// "DISK:KEY=N[,KEY=N...]" as "/dev/sda:rbps=10M,wiops=100": keys rbps and wbps with sizes, riops
// and wiops with counts, each once; DISK as DiskOf takes it.
absl::StatusOr<IoLimit> ParseIoMax(std::string_view text);
// A path of a file that names it: one that is not absolute begins at `base`. Without a base, as it
// is.
std::string PathFrom(const std::string& base, const std::string& path);
// A whole number of at least `least`.
absl::StatusOr<std::uint64_t> ParseCount(std::string_view what, std::string_view text,
                                         std::uint64_t least, std::uint64_t most);

}  // namespace brood
