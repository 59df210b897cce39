// SPDX-License-Identifier: Apache-2.0

#include "pool/doctor/capacity.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "pool/pool.h"
#include "spawn/base/kernel.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/machine.h"
#include "spawn/limits/limits.h"

namespace brood {
namespace {

// Beside the workers: zygotes, the launcher's threads, namespaces of templates.
constexpr std::uint64_t kBeside = 16;
// A parked worker with its network namespace (measured: 150 to 260 KB), and some room.
constexpr std::uint64_t kWorkerBytes = 320U << 10;
// The process that keeps a slot (measured: 60 KB).
constexpr std::uint64_t kClonerBytes = 80U << 10;
// A compiled filter of brood's own, and the errno of one for which there is no room.
constexpr std::uint64_t kFilterBytes = 2048;
constexpr int kEnotsupp = 524;
// Descriptors that a launcher holds whatever it does, and while it closes many.
constexpr std::uint64_t kLauncherFds = 300;

struct Need {
  LimitReading limit;
  std::uint64_t more = 0;  // than there are now
  std::string why;
};

// What an errno of these calls could mean is what a pool's calls count against.
void Add(const LimitQuestion& question, std::uint64_t more, const std::string& why,
         std::vector<Need>& needs) {
  for (LimitReading& limit : LimitsBehind(question)) needs.push_back({std::move(limit), more, why});
}

std::vector<Need> Needs(std::uint32_t workers, const absl::StatusOr<CgroupHost>& host) {
  const std::uint64_t more = workers + kBeside;
  const std::uint64_t slots = std::min(workers, DefaultZygotes() * kKeptSlots);
  std::vector<Need> needs;
  // How many there are is not shown by the kernel; none is tried when the caller tells.
  Add({.call = LimitedCall::kUnshare,
       .error = ENOSPC,
       .namespaces = kernel::kAllNamespaces,
       .made = 0,
       .depth = 0},
      more, "each worker has its own", needs);
  std::erase_if(needs, [](const Need& need) { return need.limit.name.ends_with(" depth"); });
  Add({.call = LimitedCall::kClone, .error = EAGAIN}, more + slots,
      fmt::format("a worker is a process with a pid here and another inside, and up to {} are in "
                  "slots, which are kept by one each",
                  slots),
      needs);
  if (host.ok() && !host->base.empty()) {
    Add({.call = LimitedCall::kMakeCgroup, .error = EAGAIN, .cgroup = host->base}, more,
        "each worker has a cgroup of its own", needs);
    std::erase_if(needs, [](const Need& need) { return need.limit.name == "cgroup.max.depth"; });
  }
  // The launcher raises its soft limit to the hard one.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY) {
    needs.push_back({{.name = "RLIMIT_NOFILE (hard)",
                      .maximum = files.rlim_max,
                      .raise = "ulimit -Hn, or LimitNOFILE= in the unit"},
                     kLauncherFds,
                     "a parked worker costs the launcher no descriptor, a running one costs one"});
  }
  for (LimitReading& limit : LimitsBehind({.call = LimitedCall::kSeccomp, .error = kEnotsupp})) {
    needs.push_back({std::move(limit), workers * kFilterBytes,
                     "the kernel compiles a filter for each worker whose namespaces are all new"});
  }
  if (ThisMachine().id_ranges) {
    const absl::StatusOr<IdRangesHeld> held = HeldIdRanges();
    needs.push_back({{.name = "ranges of host ids",
                      .maximum = kRangeCount,
                      .used = held.ok() ? std::optional<std::uint64_t>(held->ranges) : std::nullopt,
                      .raise = "other launchers give back what their workers do not use"},
                     workers,
                     "each worker has 65,536 host ids of its own"});
  }
  needs.push_back({{.name = "available memory",
                    .maximum = MeminfoBytes("MemAvailable:"),
                    .raise = "with --net host, it is a fifth of that"},
                   workers * kWorkerBytes + slots * kClonerBytes,
                   "a parked worker holds some 250 KB, most of it its network namespace's, and the "
                   "process that keeps a slot 60"});
  return needs;
}

// Of several limits of one name, as pids.max of a cgroup and of those above it, the tightest.
void KeepTightest(std::vector<Need>& needs) {
  const auto room = [](const LimitReading& limit) {
    if (!limit.maximum) return UINT64_MAX;
    return *limit.maximum - std::min(limit.used.value_or(0), *limit.maximum);
  };
  std::vector<Need> kept;
  for (Need& need : needs) {
    const auto same = [&](const Need& other) { return other.limit.name == need.limit.name; };
    const auto found = std::find_if(kept.begin(), kept.end(), same);
    if (found == kept.end()) {
      kept.push_back(std::move(need));
    } else if (room(need.limit) < room(found->limit)) {
      *found = std::move(need);
    }
  }
  needs = std::move(kept);
}

}  // namespace

void AddCapacity(std::uint32_t workers, const absl::StatusOr<CgroupHost>& host,
                 std::vector<Finding>& findings) {
  std::vector<Need> needs = Needs(workers, host);
  KeepTightest(needs);
  bool all_fine = true;
  for (const Need& need : needs) {
    const LimitReading& limit = need.limit;
    if (!limit.maximum) continue;
    const std::uint64_t needed = limit.used.value_or(0) + need.more;
    if (*limit.maximum >= needed) continue;
    all_fine = false;
    std::string what = fmt::format("is {}; {} workers need {}", *limit.maximum, workers, needed);
    if (limit.used.value_or(0) > 0) what += fmt::format(", and {} are in use", *limit.used);
    std::string remedy = limit.raise;
    // A sysctl has to be so much, not twice what it is.
    if (remedy.starts_with("sysctl -w ")) {
      remedy = fmt::format("sysctl -w {}={}", limit.name, needed * 2);
    }
    findings.push_back({limit.name, Verdict::kLess, std::move(what), need.why, std::move(remedy)});
  }
  if (!all_fine) return;
  findings.push_back({fmt::format("room for {} workers", workers), Verdict::kFine,
                      "every limit and the memory allow them", "", ""});
}

}  // namespace brood
