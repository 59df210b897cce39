// SPDX-License-Identifier: Apache-2.0

// brood stress, from outside: each limit is reached exactly, and named.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <ostream>

#include "spawn/host/cgroup_host.h"
#include "tests/cli/stress_leftovers.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"
#include "tests/slowness.h"

namespace brood {
namespace {

// A budget on this machine, as a word.
std::string Seconds(int usual) {
  return fmt::format("{}s", Patience(std::chrono::seconds(usual)).count());
}

nlohmann::json Parse(const Brood& brood) {
  return nlohmann::json::parse(brood.out(), nullptr, false);
}

struct Case {
  const char* unit;
  const char* limit;
  const char* error;
  // Where the kernel's least value is above what is wanted: that one. 0: exactly what is wanted.
  std::uint64_t maximum = 0;
  // Or the file that has it, for what is the machine's and cannot be set for a place alone.
  const char* file = nullptr;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.unit; }

class StressTest : public LeavesNothing, public ::testing::WithParamInterface<Case> {};

TEST_P(StressTest, IsReachedExactlyAndNamed) {
  std::uint64_t maximum = GetParam().maximum != 0 ? GetParam().maximum : 40;
  if (GetParam().file != nullptr) {
    ASSERT_TRUE(std::ifstream(GetParam().file) >> maximum);
  }
  const auto sysctls = Sysctls();
  Brood brood({"stress", "--json", "--budget", Seconds(25), "--up-to", "40", GetParam().unit});
  const int status = brood.Wait();
  EXPECT_EQ(Sysctls(), sysctls) << "the machine's own";
  const nlohmann::json all = Parse(brood);
  ASSERT_TRUE(all.is_array() && all.size() == 1) << brood.out() << brood.err();
  const nlohmann::json& one = all[0];
  if (one.contains("skipped")) GTEST_SKIP() << one["skipped"];
  EXPECT_EQ(status, 0) << one.dump(2);
  EXPECT_EQ(one["set_to"], maximum);
  EXPECT_EQ(one["reached"], maximum) << one.dump(2);
  EXPECT_EQ(one.value("errno", "none"), GetParam().error);
  EXPECT_EQ(one["named"], nlohmann::json::array({GetParam().limit})) << one.dump(2);
  EXPECT_EQ(one["predicted"]["limit"], GetParam().limit) << one.dump(2);
  EXPECT_EQ(one["predicted"]["reached"], maximum) << one.dump(2);
  EXPECT_EQ(one["drained"], true);
  EXPECT_GE(one["curve"].size(), 2U);
  EXPECT_THAT(Leftovers(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Limits, StressTest,
    ::testing::Values(
        Case{"user-namespaces", "user.max_user_namespaces", "ENOSPC"},
        Case{"mount-namespaces", "user.max_mnt_namespaces", "ENOSPC"},
        Case{"pid-namespaces", "user.max_pid_namespaces", "ENOSPC"},
        Case{"net-namespaces", "user.max_net_namespaces", "ENOSPC"},
        Case{"ipc-namespaces", "user.max_ipc_namespaces", "ENOSPC"},
        Case{"uts-namespaces", "user.max_uts_namespaces", "ENOSPC"},
        Case{"cgroup-namespaces", "user.max_cgroup_namespaces", "ENOSPC"},
        Case{"time-namespaces", "user.max_time_namespaces", "ENOSPC"},
        Case{"user-depth", "user namespace depth", "ENOSPC", 33},
        Case{"pid-depth", "pid namespace depth", "ENOSPC", 32},
        Case{"pids-max", "pids.max", "EAGAIN"}, Case{"pids-max-above", "pids.max", "EAGAIN"},
        Case{"nproc", "RLIMIT_NPROC", "EAGAIN"},
        // Numbers below 300 are the kernel's own, and the maximum itself is not given out.
        Case{"pid-max", "kernel.pid_max", "EAGAIN", 300},
        Case{"cgroups", "cgroup.max.descendants", "EAGAIN"},
        Case{"cgroup-depth", "cgroup.max.depth", "EAGAIN"},
        Case{"mounts", "fs.mount-max", "ENOSPC", 0, "/proc/sys/fs/mount-max"},
        Case{"nofile", "RLIMIT_NOFILE", "EMFILE"},
        Case{"inotify-instances", "user.max_inotify_instances", "EMFILE"},
        Case{"inotify-watches", "user.max_inotify_watches", "ENOSPC"},
        Case{"keys", "kernel.keys.maxkeys", "EDQUOT", 0, "/proc/sys/kernel/keys/maxkeys"},
        Case{"key-bytes", "kernel.keys.maxbytes", "EDQUOT", 0, "/proc/sys/kernel/keys/maxbytes"},
        Case{"address-space", "RLIMIT_AS", "ENOMEM"},
        Case{"ring-memory", "RLIMIT_MEMLOCK", "ENOMEM"}),
    [](const auto& instance) {
      std::string name = instance.param.unit;
      std::erase(name, '-');
      return name;
    });

// What the kernel sets no limit to grows as far as is asked.
class UnlimitedStressTest : public LeavesNothing,
                            public ::testing::WithParamInterface<const char*> {};

TEST_P(UnlimitedStressTest, GrowsAsFarAsAsked) {
  Brood brood({"stress", "--json", "--budget", Seconds(25), "--up-to", "40", GetParam()});
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  const nlohmann::json all = Parse(brood);
  ASSERT_TRUE(all.is_array() && all.size() == 1) << brood.out() << brood.err();
  if (all[0].contains("skipped")) GTEST_SKIP() << all[0]["skipped"];
  EXPECT_EQ(all[0]["stopped_by"], "up-to");
  EXPECT_GE(all[0]["reached"], 40);
  EXPECT_EQ(all[0]["drained"], true);
  EXPECT_THAT(Leftovers(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Units, UnlimitedStressTest,
                         ::testing::Values("dying-cgroups", "veth-pairs"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(StressNameTest, AsMuchIsEnoughAsNoOtherBeginsWith) {
  Brood brood({"stress", "--json", "--budget", Seconds(20), "--up-to", "8", "user-n"});
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  const nlohmann::json all = Parse(brood);
  ASSERT_TRUE(all.is_array() && all.size() == 1) << brood.out() << brood.err();
  EXPECT_EQ(all[0]["unit"], "user-namespaces") << all;
  Brood several({"stress", "pid"});
  EXPECT_EQ(several.Wait(), 125);
  EXPECT_THAT(several.err(), ::testing::HasSubstr("pid may be "));
}

// Two limits close together, whose errno is the same or not: the first to be reached is named, and
// was predicted.
class FirstOfTwoTest : public LeavesNothing {
 protected:
  nlohmann::json Push(
      const Words& words, const std::function<void()>& before_exec = [] {}) {
    Words all = {"stress", "--json", "--budget", Seconds(20)};
    all.insert(all.end(), words.begin(), words.end());
    Brood brood(all, before_exec);
    brood.Wait();
    const nlohmann::json parsed = Parse(brood);
    if (!parsed.is_array() || parsed.size() != 1) {
      ADD_FAILURE() << brood.out() << brood.err();
      return {};
    }
    return parsed[0];
  }
};

TEST_F(FirstOfTwoTest, FewerDescriptorsThanNamespaces) {
  const auto few = [] {
    const rlimit limit{60, 60};
    setrlimit(RLIMIT_NOFILE, &limit);
  };
  const nlohmann::json first = Push({"--up-to", "80", "uts-namespaces"}, few);
  EXPECT_EQ(first["named"], nlohmann::json::array({"RLIMIT_NOFILE"})) << first.dump(2);
  EXPECT_EQ(first["predicted"]["limit"], "RLIMIT_NOFILE");
  EXPECT_EQ(first["errno"], "EMFILE");
  const nlohmann::json second = Push({"--up-to", "30", "uts-namespaces"}, few);
  EXPECT_EQ(second["named"], nlohmann::json::array({"user.max_uts_namespaces"})) << second.dump(2);
}

TEST_F(FirstOfTwoTest, InotifyInstancesAndDescriptorsSayTheSame) {
  const auto few = [] {
    const rlimit limit{60, 60};
    setrlimit(RLIMIT_NOFILE, &limit);
  };
  const nlohmann::json first = Push({"--up-to", "80", "inotify-instances"}, few);
  EXPECT_EQ(first["errno"], "EMFILE");
  EXPECT_EQ(first["named"], nlohmann::json::array({"RLIMIT_NOFILE"})) << first.dump(2);
  const nlohmann::json second = Push({"--up-to", "30", "inotify-instances"}, few);
  EXPECT_EQ(second["errno"], "EMFILE");
  EXPECT_EQ(second["named"], nlohmann::json::array({"user.max_inotify_instances"}))
      << second.dump(2);
}

TEST_F(FirstOfTwoTest, ProcessesOfAUserAndOfACgroupSayTheSame) {
  BROOD_NEEDS_ROOT();
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  ASSERT_TRUE(host.ok());
  const std::string mount = host->PlaceFor("pids");
  if (mount.empty()) GTEST_SKIP() << "the pids controller cannot be used here";
  const std::filesystem::path cgroup =
      std::filesystem::path(mount) / fmt::format("brood-test-{}", getpid());
  ASSERT_TRUE(std::filesystem::create_directory(cgroup));
  std::ofstream(cgroup / "pids.max") << 60;
  const auto enter = [&] { std::ofstream(cgroup / "cgroup.procs") << 0; };
  const nlohmann::json first = Push({"--up-to", "80", "nproc"}, enter);
  EXPECT_EQ(first["errno"], "EAGAIN");
  EXPECT_EQ(first["named"], nlohmann::json::array({"pids.max"})) << first.dump(2);
  EXPECT_EQ(first["predicted"]["limit"], "pids.max") << first.dump(2);
  const nlohmann::json second = Push({"--up-to", "40", "nproc"}, enter);
  EXPECT_EQ(second["errno"], "EAGAIN");
  EXPECT_EQ(second["named"], nlohmann::json::array({"RLIMIT_NPROC"})) << second.dump(2);
  EXPECT_EQ(second["reached"], 40);
  for (int i = 0; i < 500 && rmdir(cgroup.c_str()) != 0; ++i) usleep(10'000);
  EXPECT_FALSE(std::filesystem::exists(cgroup));
}

class StormTest : public LeavesNothing, public ::testing::WithParamInterface<const char*> {};

TEST_P(StormTest, TellsTheDebtAndSeesItDrain) {
  Brood brood({"stress", "--json", "storm", GetParam(), "--rate", "200", "--for", "1s"});
  ASSERT_EQ(brood.Wait(), 0) << brood.err();
  const nlohmann::json all = Parse(brood);
  ASSERT_TRUE(all.is_array() && all.size() == 1) << brood.out() << brood.err();
  if (all[0].contains("skipped")) GTEST_SKIP() << all[0]["skipped"];
  EXPECT_GT(all[0]["made"], 20);
  EXPECT_LE(all[0]["made"], 200);
  EXPECT_TRUE(all[0]["errors"].empty()) << all[0].dump(2);
  EXPECT_GE(all[0]["debt"].size(), 3U);
  EXPECT_EQ(all[0]["drained"], true);
  EXPECT_THAT(Leftovers(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Units, StormTest,
                         ::testing::Values("net-namespaces", "mount-namespaces", "user-namespaces",
                                           "cgroups"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

class HostStressTest : public LeavesNothing {};

TEST_F(HostStressTest, AsksFirst) {
  Brood brood({"stress", "--host", "--up-to", "50"});
  EXPECT_EQ(brood.Wait(), 1);
  EXPECT_THAT(brood.err(), ::testing::HasSubstr("--yes"));
}

TEST_F(HostStressTest, RunsIsolatesAndPutsEverythingBack) {
  BROOD_NEEDS_ROOT();
  std::uint64_t before = 0;
  ASSERT_TRUE(std::ifstream("/proc/sys/kernel/pid_max") >> before);
  // More than there are numbers for, which makes it raise the maximum; stopped long before.
  Brood brood({"stress", "--json", "--host", "--yes", "--up-to", std::to_string(before), "--budget",
               Seconds(2)});
  const int status = brood.Wait();
  const nlohmann::json all = Parse(brood);
  ASSERT_TRUE(all.is_array() && all.size() == 1) << brood.out() << brood.err();
  EXPECT_EQ(status, 0) << all.dump(2);
  EXPECT_EQ(all[0]["stopped_by"], "budget");
  EXPECT_GT(all[0]["reached"], 20);
  EXPECT_GE(all[0]["processes_seen"], all[0]["reached"]);
  EXPECT_EQ(all[0]["drained"], true) << all.dump(2);
  ASSERT_FALSE(all[0]["raised"].empty());
  EXPECT_EQ(all[0]["raised"][0]["file"], "/proc/sys/kernel/pid_max");
  std::uint64_t after = 0;
  ASSERT_TRUE(std::ifstream("/proc/sys/kernel/pid_max") >> after);
  EXPECT_EQ(after, before);
}

TEST_F(HostStressTest, KilledItIsPutBackByTheGuardian) {
  BROOD_NEEDS_ROOT();
  std::uint64_t before = 0;
  ASSERT_TRUE(std::ifstream("/proc/sys/kernel/pid_max") >> before);
  const auto now = [] {
    std::uint64_t value = 0;
    std::ifstream("/proc/sys/kernel/pid_max") >> value;
    return value;
  };
  Brood brood({"stress", "--json", "--host", "--yes", "--up-to", std::to_string(before)});
  for (int i = 0; i < 500 && now() == before; ++i) usleep(10'000);
  ASSERT_NE(now(), before) << brood.err();
  kill(brood.pid(), SIGKILL);
  brood.Wait();
  for (int i = 0; i < 2000 && now() != before; ++i) usleep(10'000);
  EXPECT_EQ(now(), before);
}

class StressInterruptedTest : public LeavesNothing {};

TEST_F(StressInterruptedTest, NextStartClearsWhatAKilledOneLeft) {
  EXPECT_THAT(InterruptStress(20), ::testing::IsEmpty());
}

}  // namespace
}  // namespace brood
