#include "pool/doctor/capacity.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <array>
#include <fstream>
#include <optional>
#include <string>

#include "spawn/cgroup_host.h"
#include "spawn/id_ranges.h"
#include "spawn/limits/limits.h"

namespace brood {
namespace {

// What stands beside the workers: the machine's own processes, zygotes, the launcher's threads.
constexpr std::uint64_t kBeside = 200;
// A parked worker with its network namespace (measured: 150 to 260 KB), and some room.
constexpr std::uint64_t kWorkerBytes = 320 * 1024;
// Descriptors that a launcher holds whatever it does, and while it closes many.
constexpr std::uint64_t kLauncherFds = 300;

// The number in a file; none for "max", and where there is none.
std::optional<std::uint64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

std::uint64_t AvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  std::uint64_t kilobytes = 0;
  while (file >> word) {
    if (word == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

struct Limit {
  std::string name;
  std::optional<std::uint64_t> value;
  std::uint64_t needed = 0;
  std::string why;
  std::string remedy;
};

// The tightest of those over this process.
Limit PidsMax(std::uint64_t needed) {
  Limit limit{"pids.max", std::nullopt, needed, "a worker is a process", ""};
  for (const LimitReading& reading : PidsLimits()) {
    if (!reading.maximum || (limit.value && *reading.maximum >= *limit.value)) continue;
    limit.value = reading.maximum;
    limit.remedy = reading.raise;
  }
  return limit;
}

std::vector<Limit> Limits(std::uint32_t workers) {
  std::vector<Limit> limits;
  const std::uint64_t processes = workers + kBeside;
  const auto sysctl = [&](const std::string& name, std::uint64_t needed, std::string why) {
    std::string path = "/proc/sys/" + name;
    for (char& c : path) {
      if (c == '.') c = '/';
    }
    limits.push_back({name, NumberIn(path), needed, std::move(why),
                      fmt::format("sysctl -w {}={}", name, needed * 2)});
  };
  for (const char* const kind : {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"}) {
    sysctl(fmt::format("user.max_{}_namespaces", kind), workers + 16, "each worker has its own");
  }
  sysctl("kernel.pid_max", processes, "a worker has a number here and one inside");
  sysctl("kernel.threads-max", processes, "a worker is a thread, too");
  limits.push_back(PidsMax(processes));
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  limits.push_back({"RLIMIT_NOFILE (hard)",
                    files.rlim_max == RLIM_INFINITY ? std::nullopt : std::optional(files.rlim_max),
                    kLauncherFds,
                    "parked workers cost the launcher no descriptor, running ones one each",
                    "ulimit -Hn, or LimitNOFILE= in the unit"});
  if (const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
      host.ok() && !host->base.empty()) {
    limits.push_back({"cgroup.max.descendants", NumberIn(host->base + "/cgroup.max.descendants"),
                      workers + 16, "each worker is born in a cgroup of its own",
                      fmt::format("echo max > {}/cgroup.max.descendants", host->base)});
  }
  limits.push_back({"ranges of host ids", kRangeCount, workers,
                    "each worker has 65,536 ids that nobody else has", ""});
  limits.push_back({"available memory", AvailableBytes(), workers * kWorkerBytes,
                    "a parked worker holds some 250 KB, most of it its network namespace's",
                    "--net host holds a fifth of that"});
  return limits;
}

}  // namespace

void AddCapacity(std::uint32_t workers, std::vector<Finding>& findings) {
  bool all_fine = true;
  for (const Limit& limit : Limits(workers)) {
    if (!limit.value || *limit.value >= limit.needed) continue;
    all_fine = false;
    findings.push_back(
        {limit.name, Verdict::kLess,
         fmt::format("is {}; {} workers need {}", *limit.value, workers, limit.needed), limit.why,
         limit.remedy});
  }
  if (!all_fine) return;
  findings.push_back({fmt::format("room for {} workers", workers), Verdict::kFine,
                      "every count and the memory allow them", "", ""});
}

}  // namespace brood
