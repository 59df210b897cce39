// SPDX-License-Identifier: Apache-2.0

// Zygotes, workers and pools that are killed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <latch>
#include <mutex>
#include <thread>

#include "pool/pool.h"
#include "spawn/base/clock.h"
#include "spawn/launch/reap.h"
#include "spawn/plan/blueprint.h"
#include "tests/pool/pool_test.h"
#include "tests/pool/requests.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_F(PoolTest, KillingZygotesInTheMiddleOfAThousand) {
  Start(100);
  AwaitParked(100);
  std::atomic<bool> stop{false};
  std::atomic<int> kills{0};
  std::thread killer([&] {
    while (!stop) {
      for (const int pid : pool_->ZygotePids()) {
        if (kill(pid, SIGKILL) == 0) ++kills;
      }
      std::this_thread::sleep_for(milliseconds(150));
    }
  });
  const auto outcomes = RunMany(1000, ShellRequest("sleep 0.05; echo fine"));
  stop = true;
  killer.join();
  EXPECT_GT(kills.load(), 0);
  EXPECT_EQ(outcomes.size(), 1000U);
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.out, "fine\n") << EndName(outcome.end) << " " << outcome.message;
  }
  EXPECT_GT(pool_->Stats().zygotes_replaced, 0U);
  AwaitParked(100);
}

TEST_F(PoolTest, AParkedWorkerKilledFromOutsideIsReplaced) {
  Start(4);
  AwaitParked(4);
  std::ifstream leaves(pool_->CgroupPath() + "/cgroup.procs");
  int killed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(pool_->CgroupPath())) {
    if (!entry.is_directory() || entry.path().filename() == "zygotes") continue;
    std::ifstream procs(entry.path() / "cgroup.procs");
    int pid = 0;
    while (procs >> pid) killed += kill(pid, SIGKILL) == 0 ? 1 : 0;
  }
  if (killed == 0) GTEST_SKIP() << "needs a cgroup to find parked workers by";
  EXPECT_EQ(killed, 4);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Run(ShellRequest("echo here")).out, "here\n");
  AwaitParked(4);
  EXPECT_GT(pool_->Stats().lost_workers, 0U);
}

// Whoever kills a worker while it is being made leaves it to nobody to tell.
TEST_F(PoolTest, WorkersKilledWhileTheyAreMadeAreMadeAgain) {
  Start(50);
  if (pool_->CgroupPath().empty()) GTEST_SKIP() << "needs a cgroup to find workers by";
  int killed = 0;
  const std::int64_t until = NowNs() + 1'000'000'000;
  while (NowNs() < until) {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(pool_->CgroupPath(), gone)) {
      if (!entry.is_directory(gone) || entry.path().filename() == "zygotes") continue;
      std::ifstream procs(entry.path() / "cgroup.procs");
      int pid = 0;
      while (procs >> pid) killed += kill(pid, SIGKILL) == 0 ? 1 : 0;
    }
  }
  EXPECT_GT(killed, 0);
  AwaitParked(50);
  EXPECT_EQ(Run(ShellRequest("echo here")).out, "here\n");
}

TEST_F(PoolTest, ShutdownLetsRunningOnesEndAndKillsThemAfterItsGrace) {
  Start(2);
  AwaitParked(2);
  std::atomic<int> ended{0};
  End patient = End::kSetupFailed;
  End stubborn = End::kSetupFailed;
  ASSERT_TRUE(pool_
                  ->Submit(ShellRequest("sleep 0.3"),
                           [&](const absl::StatusOr<Outcome>& outcome) {
                             patient = outcome->end;
                             ++ended;
                           })
                  .ok());
  ASSERT_TRUE(pool_
                  ->Submit(ShellRequest("sleep 1000"),
                           [&](const absl::StatusOr<Outcome>& outcome) {
                             stubborn = outcome->end;
                             ++ended;
                           })
                  .ok());
  EXPECT_TRUE(pool_->Shutdown(seconds(2)).ok());
  EXPECT_EQ(ended.load(), 2) << "an accepted request was not answered";
  EXPECT_EQ(patient, End::kExited);
  EXPECT_EQ(stubborn, End::kKilled);
  EXPECT_EQ(pool_->Submit(ShellRequest("true"), [](const auto&) {}).code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(PoolTest, AfterShutdownEveryWayInIsRefused) {
  Start(2);
  AwaitParked(2);
  EXPECT_TRUE(pool_->Shutdown(kHang).ok());
  Request request;
  request.command.argv = {"/bin/true"};
  EXPECT_EQ(pool_->Run(request).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pool_->Run(ShellRequest("true")).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pool_->Submit(request, [](const auto&) {}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(PoolTest, AKilledLauncherLeavesNobody) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t launcher = fork();
  ASSERT_GE(launcher, 0);
  if (launcher == 0) {
    PoolOptions options;
    options.templates.emplace_back();
    options.templates[0].parked = 8;
    auto pool = Pool::Create(options);
    if (!pool.ok()) _exit(1);
    // What PR_SET_PDEATHSIG does can be undone by the worker; it must die all the same.
    const char* script = "trap '' HUP TERM; sleep 1000 & sleep 1000";
    for (int i = 0; i < 4; ++i) {
      (void)(*pool)->Submit(ShellRequest(script), [](const auto&) {});
    }
    (void)(*pool)->AwaitParked("", 8, kHang);
    const std::string path = (*pool)->CgroupPath();
    (void)!write(writer.get(), path.data(), path.size());
    writer.reset();
    pause();
    _exit(0);
  }
  writer.reset();
  char buffer[512];
  const ssize_t got = read(reader.get(), buffer, sizeof(buffer));
  ASSERT_GT(got, 0);
  const std::string parent(buffer, static_cast<std::size_t>(got));
  kill(launcher, SIGKILL);
  ASSERT_EQ(waitpid(launcher, nullptr, 0), launcher);
  const auto populated = [&] {
    std::ifstream events(parent + "/cgroup.events");
    std::string line;
    while (std::getline(events, line)) {
      if (line == "populated 1") return true;
    }
    return false;
  };
  const std::int64_t deadline = NowNs() + 1'000'000'000;
  while (populated() && NowNs() < deadline) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_FALSE(populated()) << "workers outlived their launcher by a second";
  EXPECT_TRUE(std::filesystem::exists(parent));
  Start(1);
  EXPECT_FALSE(std::filesystem::exists(parent)) << "the next start did not clear it";
}

TEST_F(PoolTest, ARequestKilledWhileItsWorkerIsMadeEnds) {
  TemplateOptions tmpl;
  tmpl.zygotes = 1;
  Start(0, std::move(tmpl));
  const std::vector<int> zygotes = pool_->ZygotePids();
  ASSERT_EQ(zygotes.size(), 1U);
  for (int round = 0; round < 5; ++round) {
    // A zygote that stands still has the order and nothing made of it.
    kill(zygotes[0], SIGSTOP);
    Request request = ShellRequest("sleep 1000");
    request.path = SpawnPath::kZygote;
    auto submitted = Submit(*pool_, std::move(request));
    ASSERT_TRUE(submitted.ok()) << submitted.status();
    while (pool_->Stats().running == 0) std::this_thread::sleep_for(milliseconds(1));
    EXPECT_TRUE(pool_->Kill(submitted->id).ok());
    kill(zygotes[0], SIGCONT);
    ASSERT_EQ(submitted->outcome.wait_for(kHang), std::future_status::ready);
    const absl::StatusOr<Outcome> outcome = submitted->outcome.get();
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->end, End::kKilled);
  }
}

}  // namespace
}  // namespace brood
