// SPDX-License-Identifier: Apache-2.0

// The program around the pool: its children and its forks.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <latch>
#include <mutex>
#include <thread>

#include "pool/pool.h"
#include "spawn/launch/reap.h"
#include "tests/pool/pool_test.h"
#include "tests/pool/requests.h"

namespace brood {
namespace {

using std::chrono::milliseconds;

TEST_F(PoolTest, AHostProgramThatWaitsForAnyChildBreaksNothing) {
  Start(4);
  AwaitParked(4);
  std::atomic<bool> stop{false};
  std::thread thief([&] {
    while (!stop) {
      if (waitpid(-1, nullptr, WNOHANG) <= 0) std::this_thread::sleep_for(milliseconds(1));
    }
  });
  for (const Outcome& outcome : RunMany(50, ShellRequest("exit 5"))) {
    if (outcome.end == End::kExited) {
      EXPECT_EQ(outcome.exit_code, 5);
    } else {
      // Before Linux 6.15 nobody can tell how it ended; that must be said.
      EXPECT_EQ(outcome.end, End::kUnknown);
      EXPECT_NE(outcome.message.find("waited for a worker"), std::string::npos) << outcome.message;
    }
  }
  stop = true;
  thief.join();
}

// What a host program does with its children, for as long as this lives.
class HostProgram {
 public:
  enum class Ways { kIgnores, kNoZombies, kWaitsForAny };

  explicit HostProgram(Ways way) {
    struct sigaction action {};
    action.sa_handler = way == Ways::kIgnores ? SIG_IGN : SIG_DFL;
    action.sa_flags = way == Ways::kNoZombies ? SA_NOCLDWAIT : 0;
    sigaction(SIGCHLD, &action, &saved_);
    if (way != Ways::kWaitsForAny) return;
    thief_ = std::thread([this] {
      while (!stop_) {
        if (waitpid(-1, nullptr, WNOHANG) <= 0) std::this_thread::yield();
      }
    });
  }
  ~HostProgram() {
    stop_ = true;
    if (thief_.joinable()) thief_.join();
    sigaction(SIGCHLD, &saved_, nullptr);
  }

 private:
  struct sigaction saved_ {};
  std::atomic<bool> stop_{false};
  std::thread thief_;
};

bool KernelKeepsExitStatus() {
  const pid_t child = fork();
  if (child == 0) _exit(3);
  const absl::StatusOr<UniqueFd> pidfd = OpenChild(child);
  if (!pidfd.ok() || waitpid(child, nullptr, 0) != child) return false;
  return Reap(pidfd->get()).ok();
}

// Whoever execs looks like any other child of the program. Its pidfd must be had before.
TEST_F(PoolTest, AHostProgramsWayWithItsChildrenCostsNoOutcome) {
  Start(8);
  AwaitParked(8);
  // Is the exit status kept for those who have a pidfd (Linux 6.15)?
  const bool kept = KernelKeepsExitStatus();
  for (const auto way : {HostProgram::Ways::kIgnores, HostProgram::Ways::kNoZombies,
                         HostProgram::Ways::kWaitsForAny}) {
    const HostProgram host(way);
    for (const SpawnPath path : {SpawnPath::kZygote, SpawnPath::kParked, SpawnPath::kCold}) {
      SCOPED_TRACE(fmt::format("way {}, {}", static_cast<int>(way), SpawnPathName(path)));
      Request request = ShellRequest("exit 5");
      request.path = path;
      // Brief enough to be gone before anybody looks.
      request.command.argv = {"/bin/sh", "-c", "exit 5"};
      request.command.stdio.mode = StdioMode::kNull;
      int wrong = 0;
      std::string last;
      for (const Outcome& outcome : RunMany(path == SpawnPath::kCold ? 50 : 200, request)) {
        const bool right = outcome.end == End::kExited && outcome.exit_code == 5;
        if (right || (!kept && outcome.end == End::kUnknown)) continue;
        ++wrong;
        last = fmt::format("{} {}: {}", EndName(outcome.end), outcome.exit_code, outcome.message);
      }
      EXPECT_EQ(wrong, 0) << last;
    }
    for (int i = 0; i < 50; ++i) {  // in the caller's own thread
      Request request = ShellRequest("exit 5");
      request.command.stdio.mode = StdioMode::kNull;
      const Outcome outcome = Run(std::move(request));
      if (kept) {
        EXPECT_EQ(outcome.exit_code, 5) << outcome.message;
      }
    }
  }
}

TEST_F(PoolTest, AForkOfTheProgramMayDropItsCopyOfThePool) {
  Start(2);
  AwaitParked(2);
  const pid_t child = fork();
  if (child == 0) {
    const bool refused = !pool_->Shutdown(milliseconds(0)).ok();
    pool_.reset();
    _exit(refused ? 0 : 1);
  }
  const absl::StatusOr<UniqueFd> pidfd = OpenChild(child);
  ASSERT_TRUE(pidfd.ok());
  pollfd ended = {pidfd->get(), POLLIN, 0};
  const int ready = poll(&ended, 1, static_cast<int>(milliseconds(kHang).count()));
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(ready, 1) << "it hangs";
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Run(ShellRequest("exit 3")).exit_code, 3) << "the program's own is as it was";
}

}  // namespace
}  // namespace brood
