// SPDX-License-Identifier: Apache-2.0

// The pool through its public interface: real zygotes, real workers, root's privileges.
#include "pool/pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <latch>
#include <mutex>
#include <set>
#include <thread>

#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/launch/reap.h"
#include "spawn/plan/blueprint.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/pool/requests.h"
#include "tests/slowness.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// BROOD_TEST_RING_REFUSAL: io_uring is taken to be refused with this errno.
int RingRefusal() {
  const char* const error = std::getenv("BROOD_TEST_RING_REFUSAL");
  return error == nullptr ? 0 : std::atoi(error);
}

std::string Sentence(const absl::Status& status) { return std::string(Message(status)); }

class PoolTest : public LeavesNothing {
 protected:
  void SetUp() override { LeavesNothing::SetUp(); }
  void TearDown() override {
    if (pool_) {
      const absl::Status status = pool_->Shutdown(Patience(seconds(20)));
      EXPECT_TRUE(status.ok()) << status;
      pool_.reset();
    }
    LeavesNothing::TearDown();
  }

  void Start(std::uint32_t parked, TemplateOptions tmpl = {}) {
    tmpl.parked = parked;
    PoolOptions options;
    options.ring_refusal = RingRefusal();
    options.templates.push_back(std::move(tmpl));
    auto pool = Pool::Create(std::move(options));
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  void AwaitParked(std::uint32_t count) {
    const absl::Status status = pool_->AwaitParked("", count, kHang);
    ASSERT_TRUE(status.ok()) << status;
  }

  Outcome Run(Request request) {
    absl::StatusOr<Outcome> outcome = pool_->Run(std::move(request));
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() ? *std::move(outcome) : Outcome{};
  }

  // Submits `count` of them and waits for all outcomes.
  std::vector<Outcome> RunMany(std::uint32_t count, const Request& request,
                               const std::function<void()>& meanwhile = {}) {
    std::mutex mutex;
    std::vector<Outcome> outcomes;
    std::latch done(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      const absl::Status status = pool_->Submit(request, [&](absl::StatusOr<Outcome> outcome) {
        {
          const std::lock_guard lock(mutex);
          EXPECT_TRUE(outcome.ok()) << outcome.status();
          if (outcome.ok()) outcomes.push_back(*std::move(outcome));
        }
        done.count_down();
      });
      EXPECT_TRUE(status.ok()) << status;
      if (!status.ok()) done.count_down();
    }
    if (meanwhile) meanwhile();
    done.wait();
    return outcomes;
  }

  std::unique_ptr<Pool> pool_;
};

TEST_F(PoolTest, ParkedWorkerRunsACommandAndTellsAll) {
  Start(2);
  AwaitParked(2);
  const Outcome outcome = Run(ShellRequest("echo out; echo err >&2; exit 7"));
  EXPECT_EQ(outcome.end, End::kExited) << outcome.message;
  EXPECT_EQ(outcome.exit_code, 7);
  EXPECT_EQ(outcome.spawn_path, SpawnPath::kParked);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.inside_pid, 1);
  EXPECT_GT(outcome.host_pid, 1);
  EXPECT_GT(outcome.park_us, 0);
  ASSERT_GE(outcome.timeline.size(), 3U);
  EXPECT_EQ(outcome.timeline.back().name, "reaped");
  for (std::size_t i = 1; i < outcome.timeline.size(); ++i) {
    EXPECT_LE(outcome.timeline[i - 1].at_us, outcome.timeline[i].at_us);
  }
}

TEST_F(PoolTest, EveryPathGivesTheSameFences) {
  Start(2);
  const std::string script =
      "id -u; hostname; cat /proc/self/cgroup | tail -n 1; grep -c . /proc/net/dev;"
      "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; touch /x 2>&1";
  std::string first;
  for (const SpawnPath path : {SpawnPath::kCold, SpawnPath::kZygote, SpawnPath::kParked}) {
    Request request = ShellRequest(script);
    request.path = path;
    const Outcome outcome = Run(request);
    EXPECT_EQ(outcome.spawn_path, path);
    EXPECT_EQ(outcome.end, End::kExited) << outcome.message;
    if (first.empty()) first = outcome.out;
    EXPECT_EQ(outcome.out, first) << SpawnPathName(path);
  }
  EXPECT_NE(first.find("0\nbrood\n0::/\n"), std::string::npos) << first;
  EXPECT_NE(first.find("CapBnd:\t0000000000000000"), std::string::npos) << first;
  EXPECT_NE(first.find("Read-only file system"), std::string::npos) << first;
}

TEST_F(PoolTest, NoTwoWorkersShareANamespace) {
  Start(2);
  AwaitParked(2);
  const std::string script =
      "for n in mnt pid net ipc uts user cgroup time; do readlink /proc/self/ns/$n; done; sleep "
      "0.2";
  std::set<std::string> seen;
  for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"}) {
    seen.insert(std::filesystem::read_symlink(std::string("/proc/self/ns/") + name).string());
  }
  // Both alive at once: an inode number may be given again later.
  for (const Outcome& outcome : RunMany(2, ShellRequest(script))) {
    std::istringstream lines(outcome.out);
    std::string line;
    int count = 0;
    while (std::getline(lines, line)) {
      EXPECT_TRUE(seen.insert(line).second) << line << " is shared";
      ++count;
    }
    EXPECT_EQ(count, 8);
  }
}

// The kernel goes through all sysfs that there are to make one more, so workers whose network
// cannot change have one together.
TEST_F(PoolTest, SysShowsLoAloneAndIsOnlySharedWhereNothingCanBeAdded) {
  for (const bool may_add : {false, true}) {
    SCOPED_TRACE(may_add);
    TemplateOptions tmpl;
    if (may_add) tmpl.spec.capabilities = {"NET_ADMIN"};
    Start(2, std::move(tmpl));
    AwaitParked(2);
    // Both alive at once: a device number may be given again later.
    const std::vector<Outcome> two =
        RunMany(2, ShellRequest("ls /sys/class/net; stat -c %d /sys; cat /proc/self/mountinfo | "
                                "grep -c ' - cgroup2 '; echo > /sys/kernel/profiling; sleep 0.3"));
    ASSERT_EQ(two.size(), 2U);
    for (const Outcome& outcome : two) {
      EXPECT_EQ(outcome.out.substr(0, 3), "lo\n") << outcome.out << outcome.err;
      EXPECT_NE(outcome.err.find("/sys/kernel/profiling"), std::string::npos) << "written";
    }
    const bool shared = !may_add && ThisMachine().mount_admin;
    EXPECT_EQ(two[0].out == two[1].out, shared) << two[0].out << two[1].out;
    EXPECT_TRUE(pool_->Shutdown(Patience(seconds(20))).ok());
    pool_.reset();
  }
}

TEST_F(PoolTest, EachWorkerHasHostIdsOfItsOwn) {
  BROOD_NEEDS_ROOT();
  Start(4);
  AwaitParked(4);
  std::set<std::string> maps;
  const auto outcomes = RunMany(4, ShellRequest("cat /proc/self/uid_map; sleep 0.2"));
  for (const Outcome& outcome : outcomes) maps.insert(outcome.out);
  EXPECT_EQ(maps.size(), 4U);
}

TEST_F(PoolTest, AThousandAtOnce) {
  Start(64);
  Request request;
  request.command.argv = {"/bin/true"};
  const auto outcomes = RunMany(1000, request);
  EXPECT_EQ(outcomes.size(), 1000U);
  std::set<std::uint64_t> ids;
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.ok()) << EndName(outcome.end) << " " << outcome.message;
    ids.insert(outcome.id);
  }
  EXPECT_EQ(ids.size(), 1000U) << "an outcome was given twice";
}

TEST_F(PoolTest, MoreCapturesAtOnceThanLanes) {
  Start(100);
  const auto outcomes = RunMany(100, ShellRequest("echo $$; echo e >&2"));
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.out, "1\n") << outcome.message;
    EXPECT_EQ(outcome.err, "e\n");
  }
}

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

TEST_F(PoolTest, LongArgumentsArrive) {
  Start(1);
  Request request = ShellRequest("echo ${#A} ${#B}");
  request.command.env.push_back("A=" + std::string(100'000, 'a'));
  request.command.env.push_back("B=" + std::string(120'000, 'b'));
  // More of them at once than there are areas for long messages.
  for (const Outcome& outcome : RunMany(20, request)) {
    EXPECT_EQ(outcome.out, "100000 120000\n") << outcome.message;
  }
}

TEST_F(PoolTest, AnEmptyPoolDoesAsTheCallerChose) {
  TemplateOptions tmpl;
  tmpl.max_workers = 1;
  Start(1, std::move(tmpl));
  AwaitParked(1);
  std::latch done(1);
  ASSERT_TRUE(
      pool_->Submit(ShellRequest("sleep 0.5"), [&](const auto&) { done.count_down(); }).ok());

  Request refuse = ShellRequest("true");
  refuse.when_empty = WhenEmpty::kRefuse;
  const absl::StatusOr<Outcome> refused = pool_->Run(refuse);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);

  Request slower = ShellRequest("echo slower");
  slower.when_empty = WhenEmpty::kSlower;
  const Outcome other = Run(slower);
  EXPECT_EQ(other.spawn_path, SpawnPath::kZygote);
  // Behind what the whole pool does without.
  ASSERT_EQ(other.fallbacks.size(), pool_->Stats().fallbacks.size() + 1);
  EXPECT_EQ(other.fallbacks.back().wanted, "parked");
  done.wait();
  EXPECT_EQ(Run(ShellRequest("echo waited")).out, "waited\n");
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
      if (kept) EXPECT_EQ(outcome.exit_code, 5) << outcome.message;
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

TEST_F(PoolTest, TemplatesStandSideBySide) {
  PoolOptions options;
  TemplateOptions one;
  one.name = "one";
  one.spec.hostname = "first";
  TemplateOptions two;
  two.name = "two";
  two.spec.hostname = "second";
  two.spec.ns(NamespaceKind::kNet).mode = NamespaceMode::kHost;
  options.templates = {one, two};
  auto pool = Pool::Create(options);
  ASSERT_TRUE(pool.ok()) << pool.status();
  pool_ = *std::move(pool);
  for (const auto& [name, hostname] : {std::pair{"one", "first\n"}, {"two", "second\n"}}) {
    Request request = ShellRequest("hostname");
    request.template_name = name;
    const Outcome outcome = Run(request);
    EXPECT_EQ(outcome.out, hostname);
    EXPECT_EQ(outcome.template_name, name);
  }
}

TEST_F(PoolTest, ClocksCanBeShiftedForATemplate) {
  TemplateOptions tmpl;
  tmpl.spec.time_offsets.boottime = std::chrono::hours(1000);
  tmpl.spec.time_offsets.monotonic = std::chrono::hours(1000);
  Start(1, std::move(tmpl));
  double host = 0;
  std::ifstream("/proc/uptime") >> host;
  const Outcome outcome = Run(ShellRequest("cat /proc/uptime"));
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_GE(std::stod(outcome.out), host + 3'600'000 - 1);
}

TEST_F(PoolTest, RootModesHoldInTemplates) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  const char* rootfs = std::getenv("BROOD_TEST_ROOTFS");
  if (rootfs == nullptr) GTEST_SKIP() << "needs BROOD_TEST_ROOTFS, a Debian root directory";
  for (const RootMode mode : {RootMode::kReadOnly, RootMode::kOverlay}) {
    TemplateOptions tmpl;
    tmpl.spec.root = {mode, rootfs, 16U << 20};
    Start(1, std::move(tmpl));
    const Outcome outcome =
        Run(ShellRequest("stat -c %u /etc/passwd /root; echo x > /etc/new && cat /etc/new"));
    const bool writable = mode == RootMode::kOverlay;
    EXPECT_EQ(outcome.out, writable ? "0\n0\nx\n" : "0\n0\n") << outcome.err << outcome.message;
    EXPECT_FALSE(std::filesystem::exists(std::string(rootfs) + "/etc/new"));
    EXPECT_TRUE(pool_->Shutdown(kHang).ok());
    pool_.reset();
  }
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
    std::promise<absl::StatusOr<Outcome>> answer;
    std::uint64_t id = 0;
    ASSERT_TRUE(
        pool_
            ->Submit(
                request,
                [&](absl::StatusOr<Outcome> outcome) { answer.set_value(std::move(outcome)); }, &id)
            .ok());
    while (pool_->Stats().running == 0) std::this_thread::sleep_for(milliseconds(1));
    EXPECT_TRUE(pool_->Kill(id).ok());
    kill(zygotes[0], SIGCONT);
    std::future<absl::StatusOr<Outcome>> result = answer.get_future();
    ASSERT_EQ(result.wait_for(kHang), std::future_status::ready);
    const absl::StatusOr<Outcome> outcome = result.get();
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->end, End::kKilled);
  }
}

}  // namespace
}  // namespace brood
