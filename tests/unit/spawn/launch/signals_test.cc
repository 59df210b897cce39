// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/signals.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "spawn/base/unique_fd.h"

namespace brood {
namespace {

constexpr std::int64_t kMs = 1'000'000;

TEST(EndRequestsTest, TheSecondOfWhicheverKindMeansIt) {
  for (const int second : {SIGINT, SIGTERM, SIGQUIT, SIGHUP}) {
    EndRequests requests;
    EXPECT_FALSE(requests.MeansKill(SIGINT, 0));
    EXPECT_TRUE(requests.MeansKill(second, 1000 * kMs));
    EXPECT_TRUE(requests.MeansKill(SIGINT, 2000 * kMs)) << "and so does each after it";
  }
}

TEST(EndRequestsTest, TheSameTwiceAtOnceIsOne) {
  EndRequests requests;
  EXPECT_FALSE(requests.MeansKill(SIGTERM, 5 * kMs));
  EXPECT_FALSE(requests.MeansKill(SIGTERM, 6 * kMs));
  EXPECT_TRUE(requests.MeansKill(SIGINT, 7 * kMs)) << "another kind is another wish";
}

TEST(EndRequestsTest, OthersAskForNothing) {
  EndRequests requests;
  for (const int number : {SIGUSR1, SIGWINCH, SIGCONT, SIGTSTP, SIGUSR1}) {
    EXPECT_FALSE(requests.MeansKill(number, 1000 * kMs * number));
  }
}

// A child that does to the signal what `prepare` says, and then waits.
class Child {
 public:
  explicit Child(void (*prepare)()) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    pid_ = fork();
    if (pid_ == 0) {
      prepare();
      (void)!write(ready[1], "", 1);
      for (;;) pause();
    }
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  // As if it were an init: it is none, so the signal itself ends it or not.
  absl::StatusOr<bool> Send(const SignalOrder& order) const {
    return Deliver({pidfd_.get(), pid_, /*init=*/true, /*starting=*/false}, order);
  }

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

TEST(DeliverTest, EndsWhoTakesTheDefaultAndNobodyElse) {
  const auto takes_default = [] { (void)signal(SIGTERM, SIG_DFL); };
  const auto ignores = [] { (void)signal(SIGTERM, SIG_IGN); };
  const auto handles = [] { (void)signal(SIGTERM, [](int) {}); };
  const auto blocks = [] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, nullptr);
  };
  EXPECT_EQ(Child(takes_default).Send({SIGTERM}).value_or(false), true);
  EXPECT_EQ(Child(ignores).Send({SIGTERM}).value_or(true), false);
  EXPECT_EQ(Child(handles).Send({SIGTERM}).value_or(true), false);
  EXPECT_EQ(Child(blocks).Send({SIGTERM}).value_or(true), false);
  EXPECT_EQ(Child(takes_default).Send({SIGWINCH}).value_or(true), false);
  EXPECT_EQ(Child(takes_default).Send({SIGTERM, 0, 1}).value_or(true), false)
      << "handlers_only: it was ignored when the launcher was started";
}

}  // namespace
}  // namespace brood
