// SPDX-License-Identifier: Apache-2.0

// What the launcher is and holds, and what the program around it does.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/launch/reap.h"
#include "tests/kernel/cold.h"
#include "tests/needs.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(ColdTest, NoDescriptorOfTheLauncherIsInside) {
  const UniqueFd plain(open("/etc/passwd", O_RDONLY));
  const UniqueFd high(fcntl(plain.get(), F_DUPFD, 500));
  ASSERT_TRUE(high.valid());
  for (const bool copies_memory : {false, true}) {
    Spec spec;
    if (copies_memory) spec.limits.memory_bytes = 1ULL << 40;
    std::vector<std::string> names;
    for (const std::string& line : Lines(Output(spec, Words({"ls", "-l", "/proc/self/fd"})))) {
      const std::size_t arrow = line.find(" -> ");
      if (arrow == std::string::npos || line.ends_with("/fd")) continue;  // its own directory
      names.push_back(line.substr(line.rfind(' ', arrow - 1) + 1));
    }
    EXPECT_THAT(names, ElementsAre(StartsWith("0 -> /dev/null"), StartsWith("1 -> pipe:"),
                                   StartsWith("2 -> pipe:")));
  }
}

TEST_F(ColdTest, SignalsAreAsAtTheBeginningOfTheWorld) {
  sigset_t blocked;
  sigset_t old;
  sigemptyset(&blocked);
  for (const int number : {SIGUSR1, SIGTERM, SIGCHLD, SIGRTMIN + 3}) sigaddset(&blocked, number);
  ASSERT_EQ(sigprocmask(SIG_BLOCK, &blocked, &old), 0);
  std::vector<std::pair<int, struct sigaction>> before;
  for (const auto& [number, handler] : std::vector<std::pair<int, void (*)(int)>>{
           {SIGINT, SIG_IGN}, {SIGPIPE, SIG_IGN}, {SIGHUP, SIG_IGN}, {SIGUSR2, [](int) {}}}) {
    struct sigaction action {};
    struct sigaction saved {};
    action.sa_handler = handler;
    ASSERT_EQ(sigaction(number, &action, &saved), 0);
    before.emplace_back(number, saved);
  }
  const std::string status = Output({}, Words({"cat", "/proc/self/status"}));
  for (const auto& [number, saved] : before) sigaction(number, &saved, nullptr);
  sigprocmask(SIG_SETMASK, &old, nullptr);
  for (const char* line : {"SigBlk:\t0000000000000000\n", "SigIgn:\t0000000000000000\n",
                           "SigCgt:\t0000000000000000\n"}) {
    EXPECT_THAT(status, HasSubstr(line));
  }
}

TEST_F(ColdTest, LauncherStaysDumpable) {
  ASSERT_EQ(prctl(PR_GET_DUMPABLE), 1);
  Spec spec;
  spec.uid = spec.gid = 1000;
  EXPECT_TRUE(Run(spec, Words({"true"})).ok());
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  EXPECT_TRUE(Run(spec, Words({"true"})).ok());
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  (void)Run(spec, Words({"true"}), {Step::kSeccomp, kInjected, -1});
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1) << "after one that failed";
}

TEST_F(ColdTest, AFrozenCgroupIsNamedAndNobodyHangs) {
  const Birthplace place = Place();
  const std::string leaf = parent_->path() + "/" + place.leaf;
  if (access((leaf + "/cgroup.freeze").c_str(), F_OK) != 0) {
    GTEST_SKIP() << "missing: cgroup.freeze (Linux 5.2)";
  }
  {
    const Frozen frozen(leaf);
    const auto outcome = RunCold(Plan({}), Words({"true"}), place, &*parent_);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->end, End::kSetupFailed) << Ending(*outcome);
    EXPECT_EQ(outcome->failure.step, Step::kBegin);
    EXPECT_THAT(outcome->message, HasSubstr("its cgroup is frozen"));
  }
  Remove(place);
}

// Where one leaf of a parent cgroup is made threaded, the others are neither threaded nor domains
// any more.
TEST_F(ColdTest, ACgroupAmongThreadedOnesIsNamed) {
  const Birthplace threaded = Place();
  std::ofstream(parent_->path() + "/" + threaded.leaf + "/cgroup.type") << "threaded" << std::flush;
  const Birthplace place = Place();
  const auto outcome = RunCold(Plan({}), Words({"true"}), place, &*parent_);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->failure.step, Step::kCloneWorker) << Ending(*outcome);
  EXPECT_EQ(outcome->failure.error, EOPNOTSUPP);
  EXPECT_THAT(outcome->message, HasSubstr("domain invalid"));
  Remove(place);
  // In the threaded one itself a process can be born, and runs.
  const auto inside = RunCold(Plan({}), Words({"true"}), threaded, &*parent_);
  ASSERT_TRUE(inside.ok()) << inside.status();
  EXPECT_TRUE(inside->ok()) << Ending(*inside);
  Remove(threaded);
}

std::atomic<int> g_child_signals = 0;

// A program that hosts the library keeps its own SIGCHLD handler and waits. A worker hides from
// both with exit signal 0; that ends where it execs, since execve(2) resets it to SIGCHLD.
TEST_F(ColdTest, HostProgramsWaitsSeeNoWorkerBeforeItsExec) {
  struct sigaction action {};
  struct sigaction saved {};
  action.sa_handler = [](int) { ++g_child_signals; };
  ASSERT_EQ(sigaction(SIGCHLD, &action, &saved), 0);
  const int before = g_child_signals;
  const auto nobody = [] { return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; };

  const Birthplace place = Place();
  const Blueprint blueprint = Plan({}, {Step::kHostname, kInjected, -1});
  std::optional<Frozen> frozen(parent_->path() + "/" + place.leaf);
  auto worker = Start(blueprint, Words({"true"}), place);
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_TRUE(nobody()) << "while it is set up";
  frozen.reset();
  pollfd ended = {worker->pidfd(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, static_cast<int>(milliseconds(kHangGuard).count())), 1);
  EXPECT_TRUE(nobody()) << "when it has failed";
  const auto exit = Reap(worker->pidfd());
  EXPECT_TRUE(exit.ok()) << exit.status();
  worker->Reaped();
  EXPECT_EQ(g_child_signals, before);
  sigaction(SIGCHLD, &saved, nullptr);
  Remove(place);
}

// After the exec its wait for any child can be faster than ours.
TEST_F(ColdTest, WorkerThatAHostProgramReapedIsAskedAfterOrNotFound) {
  const Birthplace place = Place();
  const Blueprint blueprint = Plan({});
  auto worker = Start(blueprint, Shell("exit 7"), place);
  ASSERT_TRUE(worker.ok()) << worker.status();
  ASSERT_EQ(waitpid(worker->mailbox().pid, nullptr, __WALL), worker->mailbox().pid);
  const absl::Status late = OpenChild(worker->mailbox().pid).status();
  EXPECT_TRUE(absl::IsNotFound(late)) << late;
  EXPECT_THAT(std::string(Message(late)), HasSubstr("waited for a worker"));
  const auto exit = Reap(worker->pidfd());
  worker->Reaped();
  if (exit.ok()) {  // Linux 6.15 remembers
    EXPECT_EQ(exit->code, CLD_EXITED);
    EXPECT_EQ(exit->status, 7);
  } else {
    EXPECT_TRUE(absl::IsNotFound(exit.status())) << exit.status();
  }
  Remove(place);
}

TEST_F(ColdTest, WorkerThatIsDroppedIsKilled) {
  const Birthplace place = Place();
  const Blueprint blueprint = Plan({});
  {
    auto worker = Start(blueprint, Words({"sleep", "1000"}), place);
    ASSERT_TRUE(worker.ok()) << worker.status();
    ColdWorker moved = *std::move(worker);
    EXPECT_TRUE(moved.started());
  }
  Remove(place);
}

// A worker born in a frozen cgroup stops before its first instruction: its memory can be compared
// with ours while it has not exec'd.
TEST_F(ColdTest, MemoryIsSharedUntilExecUnlessALimitCouldKillUs) {
  for (const bool limited : {false, true}) {
    Spec spec;
    // Without the other reason to share none (Machine::exec_enters_time).
    spec.ns(NamespaceKind::kTime).mode = NamespaceMode::kHost;
    if (limited) spec.limits.memory_bytes = 64 << 20;
    const Blueprint blueprint = Plan(spec);
    const Birthplace place = Place();
    std::optional<Frozen> frozen(parent_->path() + "/" + place.leaf);
    auto worker = Start(blueprint, Words({"true"}), place);
    ASSERT_TRUE(worker.ok()) << worker.status();
    const long compared = syscall(SYS_kcmp, getpid(), worker->mailbox().pid, KCMP_VM, 0, 0);
    const int error = errno;
    frozen.reset();
    const auto exit = Reap(worker->pidfd());
    worker->Reaped();
    Remove(place);
    ASSERT_TRUE(exit.ok()) << exit.status();
    EXPECT_EQ(exit->code, CLD_EXITED);
    if (compared < 0) GTEST_SKIP() << "missing: kcmp(2): " << ErrnoText(error);
    EXPECT_EQ(compared == 0, !limited);
  }
}

}  // namespace
}  // namespace brood
