// SPDX-License-Identifier: Apache-2.0

// Limits of processes, threads and their numbers.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "spawn/base/numbers.h"
#include "spawn/base/text_file.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/limits/readings.h"

namespace brood {
namespace internal {
namespace {

// Numbers below this one are not given out again once pids have wrapped (kernel/pid.c).
constexpr std::uint64_t kReservedPids = 300;

// All threads whose real user is `uid`.
std::uint64_t ThreadsOf(const std::string& proc, uid_t uid) {
  std::uint64_t count = 0;
  for (const int pid : NumbersIn(proc)) {
    const std::string status = TextOf(fmt::format("{}/{}/status", proc, pid));
    if (NumberBehind(status, "Uid:") == uid) count += NumberBehind(status, "Threads:").value_or(1);
  }
  return count;
}

// Whether this process is in a pid namespace that is not the machine's (PROC_PID_INIT_INO).
bool InPidNamespace(const std::string& proc) {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink(proc + "/self/ns/pid", error);
  return !error && own != "pid:[4026531836]";
}

// Numbers that are taken or not given out again, in this process's pid namespace: from 6.14 on each
// has a maximum of its own. They are given out upwards, and after the last one from kReservedPids.
std::uint64_t PidNumbers(const std::string& proc) {
  std::istringstream words(TextOf(proc + "/loadavg"));
  std::string word;
  std::uint64_t last = 0;  // the fifth, in this pid namespace
  for (int i = 0; i < 4; ++i) words >> word;
  if (words >> last && last < kReservedPids) return last + 1;
  std::uint64_t count = kReservedPids;
  for (const int pid : NumbersIn(proc)) {
    for (const int thread : NumbersIn(fmt::format("{}/{}/task", proc, pid))) {
      if (static_cast<std::uint64_t>(thread) >= kReservedPids) ++count;
    }
  }
  return count;
}

// Root of the machine is never counted against it, nor who may raise it (kernel/fork.c).
bool ExemptFromNproc(const std::string& proc) {
  // Capabilities of a user namespace do not count: capable() asks the machine's own.
  if (TextOf(proc + "/self/uid_map").find("4294967295") == std::string::npos) return false;
  const auto mask = NumberBehind(TextOf(proc + "/self/status"), "CapEff:", 16).value_or(0);
  return getuid() == 0 || (mask & (1ULL << 21 | 1ULL << 24)) != 0;  // SYS_ADMIN, SYS_RESOURCE
}

LimitReading Nproc(const std::string& proc) {
  LimitReading reading{.name = "RLIMIT_NPROC",
                       .what = "processes and threads of one user",
                       .where = "setrlimit(RLIMIT_NPROC)",
                       .raise = "ulimit -u unlimited, or LimitNPROC= in the unit"};
  rlimit limit{};
  if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    reading.maximum = limit.rlim_cur;
  }
  reading.used = ThreadsOf(proc, getuid());
  return reading;
}

void AddPidsUpwards(const std::string& mount, std::string path, std::vector<LimitReading>& limits) {
  for (; !path.empty() && path != "/"; path.resize(path.rfind('/'))) {
    const std::string directory = mount + path;
    const std::optional<std::uint64_t> maximum = FirstNumberOf(directory + "/pids.max");
    if (!maximum) continue;
    limits.push_back({.name = "pids.max",
                      .what = "processes and threads in a cgroup and those below it",
                      .where = directory + "/pids.max",
                      .maximum = maximum,
                      .used = FirstNumberOf(directory + "/pids.current"),
                      .raise = fmt::format("echo max > {}/pids.max", directory)});
  }
}

}  // namespace

void AddProcesses(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  if (!ExemptFromNproc(question.proc)) limits.push_back(Nproc(question.proc));
  for (LimitReading& pids : PidsLimits(question.proc)) limits.push_back(std::move(pids));
  const std::optional<std::uint64_t> threads = MachineThreads(question.proc);
  LimitReading most = Sysctl(question, "kernel.threads-max", "threads of the whole machine");
  most.used = threads;
  limits.push_back(std::move(most));
  LimitReading numbers =
      Sysctl(question, "kernel.pid_max", "numbers for processes, threads, groups and sessions");
  // /proc/loadavg counts the whole machine's threads, whoever reads it.
  if (InPidNamespace(question.proc)) {
    numbers.used = PidNumbers(question.proc);
  } else if (threads) {
    numbers.used = *threads + kReservedPids;
  }
  limits.push_back(std::move(numbers));
}

}  // namespace internal

std::vector<LimitReading> PidsLimits(const std::string& proc) {
  const std::string own = TextOf(proc + "/self/cgroup");
  const CgroupMounts mounts = ParseCgroupMounts(TextOf(proc + "/self/mountinfo"), own);
  std::vector<LimitReading> limits;
  std::istringstream lines(own);
  for (std::string line; std::getline(lines, line);) {
    // "0::/path" of v2, "8:pids:/path" of v1
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers == ",,") {
      if (!mounts.v2.empty() && !mounts.v2.front().own.empty()) {
        internal::AddPidsUpwards(mounts.v2.front().point,
                                 mounts.v2.front().own.substr(mounts.v2.front().point.size()),
                                 limits);
      }
    } else if (controllers.find(",pids,") != std::string::npos) {
      for (const V1Controller& v1 : mounts.v1) {
        if (v1.name == "pids") internal::AddPidsUpwards(v1.mount, line.substr(second + 1), limits);
      }
    }
  }
  return limits;
}

}  // namespace brood
