// SPDX-License-Identifier: Apache-2.0

// How a worker may end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "spawn/cgroup/cgroup.h"
#include "spawn/launch/reap.h"
#include "tests/kernel/cold.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST_F(ColdTest, ManyThatExitAtOnceAreAllSeen) {
  const Blueprint blueprint = Plan({});
  for (int code = 0; code < 40; ++code) {
    const Outcome outcome = RunPlan(blueprint, Shell(fmt::format("exit {}", code)));
    ASSERT_EQ(outcome.end, End::kExited) << Ending(outcome);
    ASSERT_EQ(outcome.exit_code, code);
  }
}

TEST_F(ColdTest, FaultOfTheProgramIsASignal) {
  Spec spec;
  spec.rlimits = {{RLIMIT_STACK, 256 << 10, 256 << 10}, {RLIMIT_CORE, 0, 0}};
  const Outcome outcome = Run(spec, Shell("f() { f; }; f"));
  EXPECT_EQ(outcome.end, End::kSignalled) << Ending(outcome);
  EXPECT_EQ(outcome.signal, SIGSEGV);
  EXPECT_EQ(ExitStatus(outcome), 139);
}

TEST_F(ColdTest, SignalFromOutsideIsASignal) {
  const Blueprint blueprint = Plan({});
  const Birthplace place = Place();
  auto worker = Start(blueprint, Words({"sleep", "1000"}), place);
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_TRUE(parent_->KillLeaf(place.leaf).ok());
  const auto exit = Reap(worker->pidfd());
  ASSERT_TRUE(exit.ok()) << exit.status();
  worker->Reaped();
  Outcome outcome;
  DescribeEnd(blueprint, Words({"sleep"}), worker->mailbox(), *exit, {}, outcome);
  EXPECT_EQ(outcome.end, End::kSignalled) << Ending(outcome);
  EXPECT_EQ(outcome.signal, SIGKILL);
  Remove(place);
}

TEST_F(ColdRootTest, TellsWhatKeepsAFileFromRunning) {
  std::ofstream(root_ / "data/plain") << "text\n";
  std::ofstream(root_ / "data/garbage") << "neither program nor script\n";
  std::ofstream(root_ / "data/lost") << "#!/no/such/interpreter\n";
  for (const char* name : {"garbage", "lost"}) chmod((root_ / "data" / name).c_str(), 0755);
  struct Case {
    const char* path;
    int error;
    int status;
    std::string_view advice;
  };
  const Case cases[] = {
      {"/data/plain", EACCES, 126, "not executable"},
      {"/data/garbage", ENOEXEC, 126, "neither a program for this machine nor a script"},
      {"/data/lost", ENOENT, 127, "look at its #! line"},
      {"/data", EACCES, 126, "not executable"},
  };
  for (const Case& test : cases) {
    const Outcome outcome = Run(Rooted(RootMode::kReadOnly), Words({test.path}));
    EXPECT_EQ(outcome.failure.step, Step::kExec) << Ending(outcome);
    EXPECT_EQ(outcome.failure.error, test.error) << test.path;
    EXPECT_EQ(ExitStatus(outcome), test.status) << test.path;
    EXPECT_THAT(outcome.message, HasSubstr(std::string(test.advice)));
  }
}

TEST_F(ColdTest, TimeoutKillsWhatLeftThePidNamespacesReach) {
  Spec spec;
  spec.ns(NamespaceKind::kPid).mode = NamespaceMode::kHost;
  Command command = Shell("trap '' TERM; (setsid sleep 1000 &); sleep 1000 & wait");
  command.timeout = milliseconds(200);
  const Outcome outcome = Run(spec, command);
  EXPECT_EQ(outcome.end, End::kTimeout) << Ending(outcome);
}

}  // namespace
}  // namespace brood
