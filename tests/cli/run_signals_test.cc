// SPDX-License-Identifier: Apache-2.0

// Signals, deadlines, and launchers that are killed.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "spawn/base/unique_fd.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/process_stat.h"
#include "spawn/host/process_tree.h"
#include "tests/cli/run_test.h"
#include "tests/program.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(RunTest, SignalsReachTheCommand) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH}) {
    SCOPED_TRACE(strsignal(number));
    Brood brood(
        Words{"run"} +
        Shell(fmt::format("trap 'exit 9' {}; echo ready; while :; do sleep 0.01; done", number)));
    brood.AwaitOutput("ready");
    brood.Kill(number);
    EXPECT_EQ(brood.Wait(), 9) << brood.err();
  }
}

TEST_F(RunTest, SignalsReachTheCommandOfABackgroundJob) {
  // There a shell makes SIGINT ignored, and what is ignored from the start no script can trap.
  Brood brood(Words{"run"} + Shell("trap 'exit 9' INT; echo ready; while :; do sleep 0.01; done"),
              [] { signal(SIGINT, SIG_IGN); });
  brood.AwaitOutput("ready");
  brood.Kill(SIGINT);
  EXPECT_EQ(brood.Wait(), 9) << brood.err();
}

TEST_F(RunTest, SignalsReachWhoeverWaitsForThem) {
  const char* const python = "/usr/bin/python3";
  if (access(python, X_OK) != 0) GTEST_SKIP() << "missing: " << python;
  // While a process is in sigtimedwait(2) the kernel shows the signal as not blocked.
  const std::string waiter =
      "import signal\n"
      "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
      "print('up', flush=True)\n"
      "raise SystemExit(signal.sigwait([signal.SIGTERM]) - 11)\n";
  Brood brood({"run", "--", python, "-c", waiter});
  brood.AwaitOutput("up");
  brood.Kill(SIGTERM);
  EXPECT_EQ(brood.Wait(), 4) << brood.err();
}

TEST_F(RunTest, TimeoutKillsAllWhereNothingHoldsItTogether) {
  // A child, one with a session of its own, and one that has lost its parent as well. The fixture
  // looks for what is left.
  Brood brood(Words{"run", "--no-pid", "--no-cgroup-leaf", "--timeout", "500ms"} +
              Shell("sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &); sleep 1000"));
  EXPECT_EQ(brood.Wait(), 124);
  EXPECT_THAT(brood.err(), HasSubstr("all its processes were killed"));
}

bool Lives(pid_t pid) {
  const std::optional<ProcessStat> stat = StatOf(pid);
  return stat && stat->state != 'Z';
}

TEST_F(RunTest, WorkerDiesWithItsLauncherAndTheNextOneCleansUp) {
  pid_t launcher = -1;
  {
    Brood brood(
        Words{"run"} +
        Shell("trap '' TERM INT HUP; (setsid sleep 1000 &) ; echo ready; sleep 1000 & wait"));
    launcher = brood.pid();
    brood.AwaitOutput("ready");
    const std::vector<pid_t> workers = ChildrenOf(launcher);
    ASSERT_EQ(workers.size(), 1U);
    const std::vector<pid_t> theirs = ChildrenOf(workers[0]);
    ASSERT_FALSE(theirs.empty());
    brood.Kill(SIGKILL);
    EXPECT_EQ(brood.Wait(), 1000 + SIGKILL);
    const auto guard = steady_clock::now() + Patience(std::chrono::seconds(20));
    const auto any_lives = [&] {
      return Lives(workers[0]) || std::any_of(theirs.begin(), theirs.end(), Lives);
    };
    while (any_lives() && steady_clock::now() < guard) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    EXPECT_FALSE(any_lives());
  }
  EXPECT_EQ(Status({"--", "true"}), 0);
  const auto host = CgroupHost::Discover();
  ASSERT_TRUE(host.ok()) << host.status();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(host->base + "/brood", error)) {
    EXPECT_THAT(entry.path().filename().string(), Not(StartsWith(fmt::format("{}-", launcher))));
  }
}

TEST_F(RunTest, LeftoversThatCannotBeClearedAreTold) {
  const auto host = CgroupHost::Discover();
  if (geteuid() != 0 || !host.ok() || host->base.empty()) GTEST_SKIP() << "missing: cgroups, root";
  const fs::path brood_cgroup = host->base + "/brood";
  const fs::path leftover = brood_cgroup / "999999999-00000000";  // nobody's number
  mkdir(brood_cgroup.c_str(), 0700);
  ASSERT_EQ(mkdir(leftover.c_str(), 0755), 0);
  // Locked, so that no other launcher clears it; ours shall see something else there.
  UniqueFd lock(open(leftover.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  fs::create_directory(directory_ / "cgroup.kill");  // no file to write into
  Brood brood(Words{"run", "--json", "--", "true"}, [&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount(directory_.c_str(), leftover.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      _exit(98);
    }
  });
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_THAT(brood.err(), HasSubstr("left as they are: "));
  EXPECT_THAT(brood.err(), HasSubstr(leftover.filename().string()));
  lock.reset();
  rmdir(leftover.c_str());
  rmdir(brood_cgroup.c_str());  // if nobody else has a cgroup in it
}

}  // namespace
}  // namespace brood
