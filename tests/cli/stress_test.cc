// brood stress, from outside: each limit is reached exactly, and named.
#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "spawn/cgroup_host.h"
#include "tests/kernel/machine_state.h"
#include "tests/program.h"

namespace brood {
namespace {

std::vector<std::string> Leftovers() {
  std::vector<std::string> left;
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) return left;
  std::vector<std::string> mounts = {host->base};
  for (const V1Controller& v1 : host->v1) {
    if (v1.name == "pids") mounts.push_back(v1.mount);
  }
  for (const std::string& mount : mounts) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(mount, error)) {
      if (entry.path().filename().string().starts_with("brood-stress-")) {
        left.push_back(entry.path());
      }
    }
  }
  return left;
}

struct Case {
  const char* unit;
  const char* limit;
  const char* error;
  std::uint64_t built_in = 0;
};

class StressTest : public LeavesNothing, public ::testing::WithParamInterface<Case> {};

TEST_P(StressTest, IsReachedExactlyAndNamed) {
  constexpr std::uint64_t kWanted = 40;
  Brood brood(
      {"stress", "--json", "--budget", "20s", "--up-to", std::to_string(kWanted), GetParam().unit});
  const int status = brood.Wait();
  const nlohmann::json all = nlohmann::json::parse(brood.out(), nullptr, false);
  ASSERT_TRUE(all.is_array() && all.size() == 1) << brood.out() << brood.err();
  const nlohmann::json& one = all[0];
  if (one.contains("skipped")) GTEST_SKIP() << one["skipped"];
  EXPECT_EQ(status, 0) << one.dump(2);
  const std::uint64_t maximum = GetParam().built_in != 0 ? GetParam().built_in : kWanted;
  EXPECT_EQ(one["reached"], maximum) << one.dump(2);
  EXPECT_EQ(one.value("errno", "none"), GetParam().error);
  EXPECT_EQ(one["named"], nlohmann::json::array({GetParam().limit})) << one.dump(2);
  EXPECT_EQ(one["drained"], true);
  EXPECT_GE(one["curve"].size(), 2U);
  EXPECT_THAT(Leftovers(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Limits, StressTest,
    ::testing::Values(Case{"user-namespaces", "user.max_user_namespaces", "ENOSPC"},
                      Case{"mount-namespaces", "user.max_mnt_namespaces", "ENOSPC"},
                      Case{"pid-namespaces", "user.max_pid_namespaces", "ENOSPC"},
                      Case{"net-namespaces", "user.max_net_namespaces", "ENOSPC"},
                      Case{"ipc-namespaces", "user.max_ipc_namespaces", "ENOSPC"},
                      Case{"uts-namespaces", "user.max_uts_namespaces", "ENOSPC"},
                      Case{"cgroup-namespaces", "user.max_cgroup_namespaces", "ENOSPC"},
                      Case{"time-namespaces", "user.max_time_namespaces", "ENOSPC"},
                      Case{"user-depth", "user namespace depth", "ENOSPC", 33},
                      Case{"pid-depth", "pid namespace depth", "ENOSPC", 32},
                      Case{"pids-max", "pids.max", "EAGAIN"},
                      Case{"nproc", "RLIMIT_NPROC", "EAGAIN"},
                      Case{"cgroups", "cgroup.max.descendants", "EAGAIN"},
                      Case{"cgroup-depth", "cgroup.max.depth", "EAGAIN"},
                      Case{"nofile", "RLIMIT_NOFILE", "EMFILE"},
                      Case{"inotify-instances", "user.max_inotify_instances", "EMFILE"}),
    [](const auto& instance) {
      std::string name = instance.param.unit;
      std::erase(name, '-');
      return name;
    });

class StressInterruptedTest : public LeavesNothing {};

TEST_F(StressInterruptedTest, NextStartClearsWhatAKilledOneLeft) {
  std::minstd_rand random(std::random_device{}());
  for (int i = 0; i < 20; ++i) {
    const int signal = i % 2 == 0 ? SIGINT : SIGKILL;
    Brood brood({"stress", "--json", "--up-to", "400", i % 4 < 2 ? "pids-max" : "cgroups"});
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 80));
    kill(brood.pid(), signal);
    brood.Wait();
  }
  Brood next({"stress", "--json", "--up-to", "5", "nofile"});
  next.Wait();
  EXPECT_THAT(Leftovers(), ::testing::IsEmpty()) << next.err();
}

}  // namespace
}  // namespace brood
