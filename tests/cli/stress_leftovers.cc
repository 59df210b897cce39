// SPDX-License-Identifier: Apache-2.0

#include "tests/cli/stress_leftovers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "spawn/host/cgroup_host.h"
#include "tests/program.h"

namespace brood {
namespace {

// Processes of brood, the tests' own aside.
std::vector<std::string> Processes() {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    if (ReadText(entry.path() / "comm") == "brood\n") {
      found.push_back(fmt::format("process {}", entry.path().filename().string()));
    }
  }
  return found;
}

}  // namespace

std::map<std::string, std::string> Sysctls() {
  std::map<std::string, std::string> values;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/sys/user", error)) {
    values[entry.path()] = ReadText(entry.path());
  }
  for (const char* const file : {"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"}) {
    values[file] = ReadText(file);
  }
  return values;
}

std::vector<std::string> Leftovers() {
  std::vector<std::string> left;
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) return left;
  for (const std::string& place :
       std::set<std::string>{host->base, host->PlaceFor("pids"), "/run/brood"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(place, error)) {
      if (entry.path().filename().string().starts_with("brood-stress-")) {
        left.push_back(entry.path());
      }
    }
  }
  return left;
}

std::vector<std::string> InterruptStress(int runs) {
  static const std::vector<Words> kRuns = {{"pids-max"},
                                           {"cgroups"},
                                           {"net-namespaces"},
                                           {"dying-cgroups"},
                                           {"pids-max-above"},
                                           {"user-namespaces"},
                                           {"pid-max"},
                                           {"ring-memory"},
                                           {"storm", "cgroups"},
                                           {"storm", "net-namespaces"},
                                           {"--host", "--yes", "--up-to", "40000", "isolates"}};
  const std::map<std::string, std::string> before = Sysctls();
  std::minstd_rand random(std::random_device{}());
  for (int i = 0; i < runs; ++i) {
    Words words = {"stress", "--json"};
    const Words& chosen = kRuns[static_cast<std::size_t>(i) % kRuns.size()];
    words.insert(words.end(), chosen.begin(), chosen.end());
    Brood brood(words);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 150));
    kill(brood.pid(), i % 2 == 0 ? SIGINT : SIGKILL);
    brood.Wait();
  }
  Brood next({"stress", "--json", "--up-to", "40", "nofile"});
  next.Wait();
  // Guardians of killed runs may still be at it.
  for (int i = 0; i < 1000 && !Processes().empty(); ++i) usleep(10'000);
  std::vector<std::string> left = Leftovers();
  for (std::string& process : Processes()) left.push_back(std::move(process));
  for (const auto& [file, value] : Sysctls()) {
    if (before.at(file) != value) left.push_back(fmt::format("{}: {}", file, value));
  }
  return left;
}

}  // namespace brood
