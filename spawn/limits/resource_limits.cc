// SPDX-License-Identifier: Apache-2.0

// Limits of cgroups, files, keys, memory and rings.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

#include "spawn/base/numbers.h"
#include "spawn/base/text_file.h"
#include "spawn/limits/readings.h"

namespace brood {
namespace internal {

void AddCgroups(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  std::uint64_t depth = 1;
  for (std::filesystem::path at = question.cgroup; !at.empty() && at != at.parent_path();
       at = at.parent_path(), ++depth) {
    const std::string directory = at;
    const std::optional<std::uint64_t> there =
        NumberBehind(TextOf(directory + "/cgroup.stat"), "nr_descendants");
    if (!there) break;
    for (const bool deep : {false, true}) {
      const std::string name = deep ? "cgroup.max.depth" : "cgroup.max.descendants";
      const std::string file = fmt::format("{}/{}", directory, name);
      const std::optional<std::uint64_t> maximum = FirstNumberOf(file);
      if (!maximum) continue;
      limits.push_back({.name = name,
                        .what = deep ? "cgroups inside each other" : "cgroups below a cgroup",
                        .where = file,
                        .maximum = maximum,
                        // One that fits exactly is not too many: full is one less.
                        .used = deep ? depth - 1 : *there,
                        .raise = "echo max > " + file});
    }
  }
}

LimitReading Nofile(const LimitQuestion& question) {
  LimitReading reading{.name = "RLIMIT_NOFILE",
                       .what = "descriptors of a process",
                       .where = "setrlimit(RLIMIT_NOFILE)",
                       .raise = "ulimit -n N, up to ulimit -Hn; LimitNOFILE= in the unit"};
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    reading.maximum = question.rlimit.value_or(limit.rlim_cur);
  }
  std::vector<int> open = NumbersIn(question.proc + "/self/fd");
  // At the limit there is no descriptor to look with, which says it all.
  if (open.empty() && errno == EMFILE) reading.refused = true;
  if (open.empty() || !reading.maximum) return reading;
  // The limit is on numbers: one above it takes no room. Nor does the one that was looked with.
  std::erase_if(open, [&](int fd) {
    return static_cast<std::uint64_t>(fd) >= *reading.maximum || fcntl(fd, F_GETFD) < 0;
  });
  reading.used = open.size();
  return reading;
}

void AddKeys(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  // "    0:    15 14/14 12/1000000 268/25000000"
  std::ifstream file(question.proc + "/key-users");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string uid;
    std::string skipped;
    std::string keys;
    std::string bytes;
    if (!(words >> uid >> skipped >> skipped >> keys >> bytes)) continue;
    if (uid != fmt::format("{}:", geteuid())) continue;
    for (const auto& [text, name, what] :
         {std::tuple{keys, "keys", "keys of one user"},
          std::tuple{bytes, "bytes", "bytes in keys of one user"}}) {
      LimitReading reading = Sysctl(
          question, fmt::format("kernel.keys.{}max{}", geteuid() == 0 ? "root_" : "", name), what);
      reading.used = FirstNumber(text);
      limits.push_back(std::move(reading));
    }
  }
}

void AddRing(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading =
      Sysctl(question, "kernel.io_uring_disabled", "who may use io_uring (Linux 6.6)");
  if (!reading.maximum || *reading.maximum == 0) return;  // a filter or a module has refused it
  reading.used = reading.maximum;
  reading.raise = "sysctl -w kernel.io_uring_disabled=0";
  limits.push_back(std::move(reading));
}

void AddMemory(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading{.name = "memory",
                       .what = "KiB of available memory",
                       .where = "the machine's size",
                       .raise = "end something, or add memory or swap"};
  const std::string meminfo = TextOf(question.proc + "/meminfo");
  reading.maximum = NumberBehind(meminfo, "MemTotal:");
  const std::optional<std::uint64_t> left = NumberBehind(meminfo, "MemAvailable:");
  if (reading.maximum && left) reading.used = *reading.maximum - std::min(*left, *reading.maximum);
  limits.push_back(std::move(reading));
}

// What this process may map or pin, beside the machine's memory.
void AddRlimit(const LimitQuestion& question, int resource, const char* name, const char* what,
               std::initializer_list<const char*> counted, std::vector<LimitReading>& limits) {
  LimitReading reading{.name = name,
                       .what = what,
                       .where = fmt::format("setrlimit({})", name),
                       .raise = fmt::format("prlimit --pid PID, or {}= in the unit",
                                            resource == RLIMIT_AS ? "LimitAS" : "LimitMEMLOCK"),
                       .wanted = question.wanted};
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  if (!question.rlimit && limit.rlim_cur == RLIM_INFINITY) return;
  reading.maximum = question.rlimit.value_or(limit.rlim_cur);
  const std::string status = TextOf(question.proc + "/self/status");
  std::uint64_t kilobytes = 0;
  for (const char* const key : counted) kilobytes += NumberBehind(status, key).value_or(0);
  reading.used = kilobytes * 1024;
  limits.push_back(std::move(reading));
}

void AddMappings(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading = Sysctl(question, "vm.max_map_count", "memory mappings of a process");
  const std::string maps = TextOf(question.proc + "/self/maps");
  reading.used = static_cast<std::uint64_t>(std::count(maps.begin(), maps.end(), '\n'));
  limits.push_back(std::move(reading));
}

void AddFiles(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  if (question.error == EMFILE) return limits.push_back(Nofile(question));
  LimitReading reading = Sysctl(question, "fs.file-max", "open files of the whole machine");
  reading.used = FirstNumberOf(question.proc + "/sys/fs/file-nr");
  limits.push_back(std::move(reading));
}

// What the kernel says where a filter was compiled and found no room, and it may not be interpreted
// (CONFIG_BPF_JIT_ALWAYS_ON); it does not say how much is taken. Of the machine's own network
// namespace, so there is no file for it elsewhere.
void AddJit(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading =
      Sysctl(question, "net.core.bpf_jit_limit", "bytes of compiled filters of the whole machine");
  reading.refused = true;  // nothing else has this errno
  limits.push_back(std::move(reading));
}

}  // namespace internal

}  // namespace brood
