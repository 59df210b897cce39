// SPDX-License-Identifier: Apache-2.0

// What goes wrong with a command or a template, and how it is told.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <latch>
#include <mutex>
#include <thread>

#include "pool/pool.h"
#include "spawn/base/status.h"
#include "spawn/launch/reap.h"
#include "spawn/plan/blueprint.h"
#include "tests/pool/pool_test.h"
#include "tests/pool/requests.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct NastyCase {
  const char* name;
  const char* script;
  End end;
  int code_or_signal;
};

class NastyWorker : public PoolTest, public ::testing::WithParamInterface<NastyCase> {};

TEST_P(NastyWorker, LeavesNothingAndLosesNothing) {
  const NastyCase& param = GetParam();
  Start(2);
  Request request = ShellRequest(param.script);
  request.command.timeout = seconds(2);
  if (param.end != End::kTimeout) request.command.timeout = kHang;
  const Outcome outcome = Run(request);
  EXPECT_EQ(outcome.end, param.end) << outcome.message << outcome.err;
  EXPECT_EQ(param.end == End::kExited ? outcome.exit_code : outcome.signal, param.code_or_signal);
}

INSTANTIATE_TEST_SUITE_P(
    All, NastyWorker,
    ::testing::Values(
        NastyCase{"exits_at_once", "exit 0", End::kExited, 0},
        NastyCase{"leaves_children", "sleep 1000 & sleep 1000 & exit 3", End::kExited, 3},
        NastyCase{"children_in_new_sessions", "setsid sleep 1000 & exit 4", End::kExited, 4},
        NastyCase{"ignores_sigterm", "trap '' TERM INT HUP; sleep 1000", End::kTimeout, SIGKILL},
        NastyCase{"forks_and_hangs", "for i in 1 2 3 4 5 6; do sleep 1000 & done; wait",
                  End::kTimeout, SIGKILL},
        NastyCase{"stops_itself", "kill -STOP $$; sleep 1000", End::kTimeout, SIGKILL}),
    [](const auto& test) { return test.param.name; });

TEST_F(PoolTest, OutputBeyondTheLimitIsCountedNotKept) {
  Start(1);
  Request request = ShellRequest("head -c 3000000 /dev/zero; head -c 100 /dev/zero >&2");
  request.command.stdio.capture_bytes = 1000;
  const Outcome outcome = Run(request);
  EXPECT_EQ(outcome.out.size(), 1000U);
  EXPECT_EQ(outcome.out_bytes, 3000000U);
  EXPECT_EQ(outcome.err_bytes, 100U);
  EXPECT_TRUE(outcome.truncated());
}

TEST_F(PoolTest, ASlowReaderGetsTheLastBytes) {
  Start(1);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  std::string read_back;
  std::thread slow([&] {
    char buffer[4096];
    ssize_t got = 0;
    while ((got = read(reader.get(), buffer, sizeof(buffer))) > 0) {
      read_back.append(buffer, static_cast<std::size_t>(got));
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  Request request = ShellRequest("head -c 300000 /dev/zero; echo the end");
  request.command.stdio.mode = StdioMode::kFds;
  request.command.stdio.fds = {null.get(), writer.get(), null.get()};
  const Outcome outcome = Run(request);
  EXPECT_TRUE(outcome.ok()) << outcome.message;
  writer.reset();
  slow.join();
  EXPECT_EQ(read_back.size(), 300008U);
  EXPECT_TRUE(read_back.ends_with("the end\n"));
}

struct ExecCase {
  const char* program;
  int error;
  int exit_status;
};

TEST_F(PoolTest, WhatCannotBeExecutedIsNamed) {
  Start(2);
  for (const ExecCase& param :
       {ExecCase{"/no/such/program", ENOENT, 127}, ExecCase{"no-such-program", ENOENT, 127},
        ExecCase{"/etc/passwd", EACCES, 126}, ExecCase{"/etc", EACCES, 126}}) {
    Request request;
    request.command.argv = {param.program};
    const Outcome outcome = Run(request);
    EXPECT_EQ(outcome.end, End::kSetupFailed) << param.program;
    EXPECT_EQ(outcome.failure.step, Step::kExec);
    EXPECT_EQ(outcome.failure.error, param.error) << param.program;
    EXPECT_EQ(ExitStatus(outcome), param.exit_status) << param.program;
    EXPECT_NE(outcome.message.find(param.program), std::string::npos) << outcome.message;
  }
}

TEST_F(PoolTest, BadRequestsAreRefusedBeforeAnythingRuns) {
  Start(1);
  const auto refused = [&](Request request) {
    const absl::StatusOr<Outcome> outcome = pool_->Run(std::move(request));
    EXPECT_FALSE(outcome.ok());
    return outcome.ok() ? std::string() : Sentence(outcome.status());
  };
  EXPECT_NE(refused(Request{}).find("no command"), std::string::npos);
  Request unknown = ShellRequest("true");
  unknown.template_name = "nowhere";
  EXPECT_NE(refused(unknown).find("no template \"nowhere\""), std::string::npos);
  Request nul = ShellRequest(std::string("a\0b", 3));
  EXPECT_NE(refused(nul).find("NUL"), std::string::npos);
  Request huge = ShellRequest("true");
  huge.command.env.assign(40, "A=" + std::string(100'000, 'x'));
  EXPECT_NE(refused(huge).find("at most"), std::string::npos);
}

// Every operation of the worker's list, by index, over both paths that a zygote serves.
TEST_F(PoolTest, AFailureAtEveryStepArrivesAsThatStepAndErrno) {
  const auto blueprint = Blueprint::Make(Spec{}, PlanKind::kTemplate);
  ASSERT_TRUE(blueprint.ok()) << blueprint.status();
  const Plan& plan = blueprint->plan();
  std::vector<FaultInjection> faults;
  for (std::uint32_t i = 0; i < plan.worker.count; ++i) {
    faults.push_back({plan.ops(plan.worker)[i].step, EXDEV, static_cast<int>(i), false});
  }
  for (const Step step : {Step::kCloneWorker, Step::kOpenLeaf, Step::kMapIds, Step::kStdio,
                          Step::kReceiveFds, Step::kWorkingDirectory, Step::kExec}) {
    faults.push_back({step, EXDEV, 0, false});
  }
  for (const FaultInjection& fault : faults) {
    TemplateOptions tmpl;
    tmpl.fault = fault;
    SCOPED_TRACE(StepName(fault.step));
    ASSERT_NO_FATAL_FAILURE(Start(0, std::move(tmpl)));
    for (const SpawnPath path : {SpawnPath::kZygote, SpawnPath::kParked}) {
      Request request = ShellRequest("true");
      request.path = path;
      const Outcome outcome = Run(request);
      EXPECT_EQ(outcome.end, End::kSetupFailed);
      EXPECT_EQ(StepName(outcome.failure.step), StepName(fault.step));
      EXPECT_EQ(outcome.failure.error, EXDEV);
      EXPECT_NE(outcome.message.find("EXDEV"), std::string::npos) << outcome.message;
    }
    EXPECT_TRUE(pool_->Shutdown(kHang).ok());
    pool_.reset();
  }
}

TEST_F(PoolTest, ATemplateThatCannotStandIsTold) {
  TemplateOptions tmpl;
  tmpl.fault = {Step::kCopyTree, EXDEV, 0, true};
  Start(0, tmpl);
  const Outcome outcome = Run(ShellRequest("true"));
  EXPECT_EQ(StepName(outcome.failure.step), "copy_tree");
  pool_->Shutdown(kHang).IgnoreError();
  pool_.reset();

  tmpl.fault = {Step::kAttachTree, EXDEV, -1, true};
  PoolOptions options;
  options.templates.push_back(tmpl);
  const auto pool = Pool::Create(options);
  ASSERT_FALSE(pool.ok());
  EXPECT_NE(Sentence(pool.status()).find("preparing the template: attaching a mount tree"),
            std::string::npos)
      << pool.status();
}

// As in a program that was started without it: the number belongs to a file of its own then.
TEST_F(PoolTest, AFileOfTheLaunchersInPlaceOfStdinIsNotHandedOn) {
  Start(1);
  const UniqueFd saved(fcntl(0, F_DUPFD_CLOEXEC, 3));
  const UniqueFd secret(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(dup3(secret.get(), 0, O_CLOEXEC), 0);
  Request request = ShellRequest("read line && exit 1; exit 0");
  request.command.stdio.mode = StdioMode::kInherit;
  const Outcome outcome = Run(request);
  dup2(saved.get(), 0);
  EXPECT_TRUE(outcome.ok()) << "the worker read a file of its launcher's";
}

}  // namespace
}  // namespace brood
