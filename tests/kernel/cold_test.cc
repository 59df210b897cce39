// SPDX-License-Identifier: Apache-2.0

// The cold path on a real kernel: every fence as the command behind it sees it, every step that can
// fail, and nothing left behind.
//
// ColdAnywhereTest runs as whoever starts the tests; the tests of ColdAsOthersTest run it again as
// an ordinary user and inside user namespaces. All else needs root.
#include "spawn/launch/cold.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/machine.h"
#include "spawn/launch/reap.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/slowness.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A test that hangs is ended by this; no test expects to come near it.
const seconds kHangGuard = Patience(seconds(30));
// An errno that no operation of a worker returns by itself.
constexpr int kInjected = EXDEV;

Command Words(std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  command.env = DefaultEnvironment();
  command.stdio.mode = StdioMode::kCapture;
  command.timeout = kHangGuard;
  return command;
}

Command Shell(std::string_view script) { return Words({"/bin/sh", "-c", std::string(script)}); }

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string LinkText(const std::string& path) {
  char text[256];
  const ssize_t length = readlink(path.c_str(), text, sizeof(text));
  return std::string(text, length < 0 ? 0 : static_cast<std::size_t>(length));
}

std::string NamespaceOf(std::string_view pid, NamespaceKind kind) {
  return LinkText(fmt::format("/proc/{}/ns/{}", pid, NamespaceProcName(kind)));
}

std::string Ending(const Outcome& outcome) {
  return fmt::format("{} exit {} signal {} step {} errno {}: {}\nstderr: {}", EndName(outcome.end),
                     outcome.exit_code, outcome.signal, StepName(outcome.failure.step),
                     outcome.failure.error, outcome.message, outcome.err);
}

// Runs `body` in a forked copy of this process and returns its wait status.
int InAFork(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
  return status;
}

// A place for workers, and the machine compared with before.
class ColdAnywhereTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    const auto host = CgroupHost::Discover();
    ASSERT_TRUE(host.ok()) << host.status();
    if (auto parent = ParentCgroup::Create(*host, {}); parent.ok()) parent_ = *std::move(parent);
    if (ThisMachine().id_ranges) {
      auto ids = IdRanges::Open(1);
      ASSERT_TRUE(ids.ok()) << ids.status();
      ids_ = *std::move(ids);
      id_first_ = ids_.Take().value();
    }
  }

  void TearDown() override {
    if (parent_) {
      const absl::Status removed = parent_->Remove();
      EXPECT_TRUE(removed.ok()) << removed;
      parent_.reset();
    }
    ids_ = {};
    LeavesNothing::TearDown();
  }

  static Blueprint Plan(const Spec& spec, const FaultInjection& fault = {}) {
    auto blueprint = Blueprint::Make(spec, PlanKind::kCold, fault);
    if (!blueprint.ok()) {
      ADD_FAILURE() << blueprint.status();
      std::abort();  // nothing sensible can follow
    }
    return *std::move(blueprint);
  }

  // A place in a fresh leaf.
  Birthplace Place() {
    Birthplace place;
    place.id_first = id_first_;
    if (!parent_) return place;
    place.parent_fd = parent_->fd();
    place.leaf = fmt::format("w{}", ++leaves_);
    const auto made = parent_->MakeLeaf(place.leaf, {});
    EXPECT_TRUE(made.ok()) << made.status();
    return place;
  }

  // Removing does not kill: it fails when anything of the worker still runs.
  void Remove(const Birthplace& place) {
    if (!parent_) return;
    const absl::Status removed = parent_->RemoveLeaf(place.leaf);
    EXPECT_TRUE(removed.ok()) << removed;
  }

  Outcome RunPlan(const Blueprint& blueprint, const Command& command) {
    const Birthplace place = Place();
    auto outcome = RunCold(blueprint, command, place, parent_ ? &*parent_ : nullptr);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    Remove(place);
    return outcome.ok() ? *std::move(outcome) : Outcome{};
  }
  Outcome Run(const Spec& spec, const Command& command, const FaultInjection& fault = {}) {
    return RunPlan(Plan(spec, fault), command);
  }

  // Starts a worker that the test reaps itself.
  static absl::StatusOr<ColdWorker> Start(const Blueprint& blueprint, const Command& command,
                                          const Birthplace& place) {
    BROOD_ASSIGN_OR_RETURN(const LauncherFds launcher, LauncherFds::Open());
    return ColdWorker::Start(blueprint, command, place, launcher);
  }

  // The output of a script that must succeed.
  std::string Output(const Spec& spec, std::string_view script) {
    return Output(spec, Shell(script));
  }
  std::string Output(const Spec& spec, const Command& command) {
    const Outcome outcome = Run(spec, command);
    EXPECT_TRUE(outcome.ok()) << Ending(outcome);
    return outcome.out;
  }

  std::optional<ParentCgroup> parent_;
  IdRanges ids_;
  std::uint32_t id_first_ = 0;

 private:
  int leaves_ = 0;
};

// --- for anybody --------------------------------------------------------------------------------

TEST_F(ColdAnywhereTest, RunsACommandAndTellsHowItWent) {
  const Outcome outcome = Run({}, Shell("echo out; echo err >&2; exit 7"));
  EXPECT_EQ(outcome.end, End::kExited) << Ending(outcome);
  EXPECT_EQ(outcome.exit_code, 7);
  EXPECT_EQ(ExitStatus(outcome), 7);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.spawn_path, SpawnPath::kCold);
  EXPECT_GT(outcome.host_pid, 0);
  EXPECT_EQ(outcome.inside_pid, 1);
  EXPECT_FALSE(outcome.failure.failed());
  EXPECT_GT(outcome.wall_us, 0);
  ASSERT_TRUE(outcome.cpu_us.has_value());
  EXPECT_GT(*outcome.cpu_us, 0);
}

TEST_F(ColdAnywhereTest, TimelineIsInOrder) {
  const Outcome outcome = Run({}, Words({"true"}));
  std::vector<std::string> names;
  for (const Moment& moment : outcome.timeline) names.push_back(moment.name);
  for (const char* name : {"born", "cloned", "set_up", "launched", "exec", "reaped"}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
  }
  double last = 0;
  for (const Moment& moment : outcome.timeline) {
    EXPECT_GE(moment.at_us, last) << moment.name;
    last = moment.at_us;
  }
  EXPECT_LE(last, outcome.wall_us + 1);
}

TEST_F(ColdAnywhereTest, IsRootInsideAlone) {
  EXPECT_EQ(Output({}, "id -u; id -g; echo $$"), "0\n0\n1\n");
  EXPECT_THAT(Output({}, Words({"cat", "/proc/self/stat"})), HasSubstr(") R 0 1 1 "))
      << "init, of a session and process group of its own";
}

TEST_F(ColdAnywhereTest, GetsItsArgumentsEnvironmentDirectoryAndUmask) {
  Command command = Words({"/bin/sh", "-c", "printf '%s|' \"$0\" \"$@\"; pwd; umask; env", "zero",
                           "", "two words", "ü*"});
  command.env = {"PATH=/usr/bin:/bin", "EMPTY=", "A=b=c"};
  command.cwd = "/usr";
  const std::string out = Output({}, command);
  EXPECT_THAT(out, StartsWith("zero||two words|ü*|/usr\n0022\n"));
  std::set<std::string> variables;
  for (const std::string& line : Lines(out.substr(out.find("0022\n") + 5))) variables.insert(line);
  variables.erase("PWD=/usr");  // these two are the shell's own
  variables.erase("OLDPWD=/usr");
  std::erase_if(variables, [](const std::string& line) { return line.starts_with("_="); });
  EXPECT_EQ(variables, (std::set<std::string>{"PATH=/usr/bin:/bin", "EMPTY=", "A=b=c"}));
}

TEST_F(ColdAnywhereTest, HasItsOwnHostname) {
  Spec spec;
  spec.hostname = "nest-7";
  const std::string before = TextOf("/proc/sys/kernel/hostname");
  EXPECT_EQ(Output(spec, "cat /proc/sys/kernel/hostname"), "nest-7\n");
  EXPECT_EQ(TextOf("/proc/sys/kernel/hostname"), before);
}

TEST_F(ColdAnywhereTest, EveryNamespaceIsNew) {
  std::string script;
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    script +=
        fmt::format("readlink /proc/self/ns/{};", NamespaceProcName(static_cast<NamespaceKind>(i)));
  }
  const std::vector<std::string> inside = Lines(Output({}, script));
  ASSERT_EQ(inside.size(), kNamespaceCount);
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    EXPECT_THAT(inside[i], StartsWith(std::string(NamespaceProcName(kind))));
    EXPECT_NE(inside[i], NamespaceOf("self", kind)) << NamespaceName(kind);
  }
}

TEST_F(ColdAnywhereTest, HostsTreeIsReadOnly) {
  EXPECT_EQ(Output({},
                   "for d in / /etc /usr /var /dev /proc/sys/kernel; do"
                   "  (: > $d/brood-was-here) 2>/dev/null && echo \"wrote $d\"; done; true"),
            "");
}

TEST_F(ColdAnywhereTest, HasAPrivateWritableTmp) {
  const std::string file = fmt::format("/tmp/brood_private_{}", getpid());
  EXPECT_EQ(Output({}, fmt::format("ls -A /tmp; echo kept > {0}; cat {0}; stat -c %a /tmp /dev/shm",
                                   file)),
            "kept\n1777\n1777\n");
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(ColdAnywhereTest, HasTheDevicesThatProgramsNeed) {
  EXPECT_EQ(Output({},
                   "ls /dev | tr '\\n' ' '; echo;"
                   "echo gone > /dev/null; head -c 3 /dev/zero | wc -c;"
                   "head -c 3 /dev/urandom | wc -c; (echo x > /dev/full) 2>/dev/null || echo full;"
                   "exec 3<> /dev/ptmx && echo pty; ls /dev/pts; readlink /dev/stdin"),
            "brood fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n"
            "3\n3\nfull\npty\n0\nptmx\n/proc/self/fd/0\n");
}

TEST_F(ColdAnywhereTest, HasNoPrivilege) {
  const std::string status = Output({}, Words({"cat", "/proc/self/status"}));
  for (const char* line : {"CapInh:\t0000000000000000\n", "CapPrm:\t0000000000000000\n",
                           "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
                           "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"}) {
    EXPECT_THAT(status, HasSubstr(line));
  }
}

TEST_F(ColdAnywhereTest, FilterRefusesWhatTheDefaultForbids) {
  Spec spec;
  const Outcome refused = Run(spec, Words({"unshare", "-U", "true"}));
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("Operation not permitted"));
  spec.seccomp.mode = SeccompMode::kOff;
  EXPECT_TRUE(Run(spec, Words({"unshare", "-U", "true"})).ok());
}

TEST_F(ColdAnywhereTest, LoopbackIsUpAndTheOnlyInterface) {
  const std::string out =
      Output({}, "grep -c 127.0.0.1 /proc/net/fib_trie; tail -n +3 /proc/net/dev");
  EXPECT_NE(out.front(), '0') << "an interface without an address is down";
  EXPECT_THAT(out, HasSubstr("lo:"));
  EXPECT_THAT(out, Not(HasSubstr("eth")));
}

struct ExecCase {
  std::string_view name;
  std::vector<std::string> argv;
  int error;
  int status;
};

TEST_F(ColdAnywhereTest, TellsWhyItCouldNotExecute) {
  const ExecCase cases[] = {
      {"missing file", {"/nonexistent/program"}, ENOENT, 127},
      {"missing name", {"no-such-program-anywhere"}, ENOENT, 127},
      {"a directory", {"/usr"}, EACCES, 126},
      {"not executable", {"/etc/passwd"}, EACCES, 126},
      {"below a file", {"/etc/passwd/x"}, ENOENT, 127},
  };
  for (const ExecCase& test : cases) {
    SCOPED_TRACE(test.name);
    const Outcome outcome = Run({}, Words(test.argv));
    EXPECT_EQ(outcome.end, End::kSetupFailed) << Ending(outcome);
    EXPECT_EQ(outcome.failure.step, Step::kExec);
    EXPECT_EQ(outcome.failure.error, test.error);
    EXPECT_EQ(ExitStatus(outcome), test.status);
    EXPECT_THAT(outcome.message, StartsWith("executing " + test.argv[0] + ": "));
  }
}

TEST_F(ColdAnywhereTest, TellsOfAWorkingDirectoryThatIsNotThere) {
  Command command = Words({"true"});
  command.cwd = "/nowhere";
  const Outcome outcome = Run({}, command);
  EXPECT_EQ(outcome.failure.step, Step::kWorkingDirectory) << Ending(outcome);
  EXPECT_EQ(ExitStatus(outcome), 125);
  EXPECT_THAT(outcome.message, HasSubstr("/nowhere: ENOENT"));
}

TEST_F(ColdAnywhereTest, TimeoutKillsEverythingOfIt) {
  // Deaf to SIGTERM, with descendants in sessions of their own.
  Command command = Shell(
      "trap '' TERM INT HUP; (setsid sleep 1000 & sleep 1000) & sleep 1000 & while :; do wait; "
      "done");
  command.timeout = milliseconds(200);
  const Outcome outcome = Run({}, command);
  EXPECT_EQ(outcome.end, End::kTimeout) << Ending(outcome);
  EXPECT_EQ(ExitStatus(outcome), 124);
  EXPECT_GE(outcome.wall_us, 200'000);
}

// As brood exec does. Whoever has no privilege of his own sends an setns helper in.
TEST_F(ColdAnywhereTest, JoinsAllNamespacesOfAnother) {
  const Birthplace place = Place();
  const Blueprint blueprint = Plan({});
  auto started = Start(blueprint, Words({"sleep", "1000"}), place);
  ASSERT_TRUE(started.ok()) << started.status();
  std::optional<ColdWorker> other = *std::move(started);
  const std::string proc = fmt::format("/proc/{}", other->mailbox().pid);
  while (TextOf(proc + "/comm") != "sleep\n") {  // all of them stand then
    ASSERT_NE(LoadState(other->mailbox()), WorkerState::kFailed)
        << blueprint.Describe(other->mailbox().failure, blueprint.plan().worker);
    usleep(1000);
  }

  Spec spec;
  std::string script = "id -u";
  std::string wanted = "0\n";
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    const std::string path = fmt::format("{}/ns/{}", proc, NamespaceProcName(kind));
    spec.ns(kind) = {NamespaceMode::kJoin, path};
    script += fmt::format("; readlink /proc/self/ns/{}", NamespaceProcName(kind));
    wanted += LinkText(path) + "\n";
  }
  EXPECT_EQ(Output(spec, script), wanted);
  EXPECT_EQ(Output(spec, "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status"),
            "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
  EXPECT_EQ(Run(spec, Shell("kill -9 $$")).signal, SIGKILL);

  for (const FaultInjection& fault :
       {FaultInjection{.step = Step::kJoinNamespace, .error = EMFILE, .index = 0},
        FaultInjection{.step = Step::kJoinNamespace, .error = EMFILE, .index = 2},
        FaultInjection{.step = Step::kCloneWorker, .error = EAGAIN, .index = 0}}) {
    if (fault.step == Step::kJoinNamespace && !Plan(spec).by_setns_helper()) continue;
    const Outcome outcome = Run(spec, Shell("true"), fault);
    EXPECT_EQ(outcome.end, End::kSetupFailed) << Ending(outcome);
    EXPECT_EQ(outcome.failure.step, fault.step);
    EXPECT_EQ(outcome.failure.error, fault.error);
  }
  other.reset();
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  Remove(place);
}

TEST_F(ColdAnywhereTest, FaultOfAStepIsReported) {
  const Outcome outcome = Run({}, Words({"true"}), {Step::kHostname, kInjected, -1});
  EXPECT_EQ(outcome.end, End::kSetupFailed) << Ending(outcome);
  EXPECT_EQ(outcome.failure.step, Step::kHostname);
  EXPECT_EQ(outcome.failure.error, kInjected);
}

// --- for root -----------------------------------------------------------------------------------

class ColdTest : public ColdAnywhereTest {
 protected:
  void SetUp() override {
    if (!ThisMachine().id_ranges || !ThisMachine().mount_admin) GTEST_SKIP() << "missing: root";
    ColdAnywhereTest::SetUp();
    if (!HasFatalFailure() && !parent_) GTEST_SKIP() << "missing: a writable cgroup2 mount";
  }
  void TearDown() override {
    if (ThisMachine().id_ranges && ThisMachine().mount_admin) ColdAnywhereTest::TearDown();
  }
};

// A directory of the test's own, with a root made of a static busybox.
class ColdRootTest : public ColdTest {
 protected:
  void SetUp() override {
    ColdTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    fs::create_directories(directory_);
    // Static, or the root would need libraries.
    const std::string program = "/usr/bin/busybox";
    if (TextOf(program).find("/lib64/ld-linux") != std::string::npos || !fs::exists(program)) {
      GTEST_SKIP() << "missing: a static /usr/bin/busybox (busybox-static)";
    }
    for (const char* name : {"bin", "proc", "dev", "tmp", "sys", "etc", "mnt", "run", "data"}) {
      fs::create_directories(root_ / name);
    }
    fs::copy_file(program, root_ / "bin/busybox");
    for (const char* name : {"sh", "cat", "ls", "id", "touch", "stat", "head", "wc", "readlink",
                             "rm", "dd", "grep", "mkdir"}) {
      fs::create_symlink("busybox", root_ / "bin" / name);
    }
    std::ofstream(root_ / "etc/original") << "original\n";
  }
  void TearDown() override {
    fs::remove_all(directory_);
    ColdTest::TearDown();
  }

  Spec Rooted(RootMode mode) const {
    Spec spec;
    spec.root.mode = mode;
    spec.root.directory = root_;
    return spec;
  }

  // A file beside the root.
  std::string Write(std::string_view name, std::string_view text, mode_t mode = 0644) const {
    const fs::path path = directory_ / name;
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }

  const fs::path directory_ =
      fs::path(::testing::TempDir()) / fmt::format("brood_cold_{}", getpid());
  const fs::path root_ = directory_ / "root";
};

// --- faults -------------------------------------------------------------------------------------

class ColdFaultTest : public ColdRootTest {
 protected:
  void ExpectFailure(const Spec& spec, const FaultInjection& fault, std::uint16_t index) {
    SCOPED_TRACE(fmt::format("{} at {}", StepName(fault.step), fault.index));
    const Outcome outcome = Run(spec, Shell("echo it ran"), fault);
    EXPECT_EQ(outcome.end, End::kSetupFailed) << Ending(outcome);
    EXPECT_EQ(outcome.failure.step, fault.step) << StepName(outcome.failure.step);
    EXPECT_EQ(outcome.failure.index, index);
    EXPECT_EQ(outcome.failure.error, fault.error);
    EXPECT_THAT(outcome.message, HasSubstr("EXDEV (Invalid cross-device link)"));
    EXPECT_EQ(ExitStatus(outcome), fault.step == Step::kExec ? 126 : 125);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.signal, 0);
  }
};

TEST_F(ColdFaultTest, EveryOperationOfEveryPlanReportsItself) {
  std::map<std::string, Spec> specs = {{"the host's tree", {}},
                                       {"a read-only root", Rooted(RootMode::kReadOnly)},
                                       {"a writable root", Rooted(RootMode::kReadWrite)},
                                       {"an overlay", Rooted(RootMode::kOverlay)}};
  Spec& much = specs["much of everything"] = Rooted(RootMode::kReadOnly);
  much.binds = {{root_ / "etc", "/data", true}, {root_ / "etc/original", "/tmp/below/file", false}};
  much.tmpfs = {{.target = "/mnt"}, {.target = "/tmp/scratch"}};
  much.time_offsets.monotonic = seconds(5);
  much.uid = 1000;
  much.capabilities = {"NET_RAW"};
  much.rlimits = {{RLIMIT_CORE, 0, 0}};
  much.seccomp.mode = SeccompMode::kOff;
  Spec& joined = specs["the host's users, a joined namespace"] = {};
  joined.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  joined.ns(NamespaceKind::kTime) = {NamespaceMode::kJoin, "/proc/self/ns/time"};

  std::set<Step> reported;
  for (const auto& [name, spec] : specs) {
    SCOPED_TRACE(name);
    EXPECT_EQ(Output(spec, "echo it ran"), "it ran\n") << "without a fault";
    const Blueprint blueprint = Plan(spec);
    const brood::Plan& plan = blueprint.plan();
    for (std::uint32_t i = 0; i < plan.worker.count; ++i) {
      const Step step = plan.ops(plan.worker)[i].step;
      ExpectFailure(spec, {step, kInjected, static_cast<int>(i)}, static_cast<std::uint16_t>(i));
      reported.insert(step);
    }
  }
  for (const Step step : {Step::kJoinNamespace,
                          Step::kUnshare,
                          Step::kTimeOffsets,
                          Step::kPrivatePropagation,
                          Step::kAttachTree,
                          Step::kBindPath,
                          Step::kMountProc,
                          Step::kMountTmpfs,
                          Step::kMountDevpts,
                          Step::kMountOverlay,
                          Step::kMaskPath,
                          Step::kMakeDirectory,
                          Step::kMakeFile,
                          Step::kEnterRoot,
                          Step::kMountSys,
                          Step::kMountCgroup,
                          Step::kHostname,
                          Step::kLoopback,
                          Step::kNewSession,
                          Step::kNewKeyring,
                          Step::kSetIds,
                          Step::kParentDeath,
                          Step::kCapabilities,
                          Step::kNoNewPrivs,
                          Step::kRlimit,
                          Step::kSeccomp,
                          Step::kGo}) {
    EXPECT_EQ(reported.count(step), 1U) << StepName(step) << " is in none of these plans";
  }
  for (const Step step : {Step::kMakeSymlink, Step::kRemount}) {  // for a /dev of its own making
    EXPECT_EQ(reported.count(step) == 0, ThisMachine().makes_nodes) << StepName(step);
  }
}

TEST_F(ColdFaultTest, StepsOutsideThePlanReportThemselves) {
  for (const Step step : {Step::kCloneWorker, Step::kOpenLeaf, Step::kMapIds, Step::kStdio,
                          Step::kCloseFds, Step::kWorkingDirectory, Step::kExec}) {
    ExpectFailure({}, {step, kInjected, -1}, 0);
  }
}

TEST_F(ColdFaultTest, FilterInstalledLateReportsItself) {
  Spec spec;
  spec.seccomp = {SeccompMode::kFile,
                  Write("late.json", R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                       {"names": ["recvmsg"], "action": "SCMP_ACT_ERRNO"}]})")};
  EXPECT_EQ(Output(spec, "grep -c 'Seccomp:.2' /proc/self/status"), "1\n");
  ExpectFailure(spec, {Step::kSeccomp, kInjected, -1}, 0);
}

TEST_F(ColdFaultTest, RefusedIdmapIsAFallback) {
  const Outcome outcome = Run(Rooted(RootMode::kReadOnly), Shell("id -u; stat -c %u /etc/original"),
                              {Step::kIdmapTree, kInjected, -1});
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(outcome.out, "0\n65534\n");
  ASSERT_EQ(outcome.fallbacks.size(), 1U);
  EXPECT_EQ(outcome.fallbacks[0].error, kInjected);
  EXPECT_THAT(outcome.fallbacks[0].used, HasSubstr("nobody"));
}

TEST_F(ColdFaultTest, RealRefusalsOfTheKernel) {
  Spec spec;
  spec.rlimits = {{RLIMIT_NOFILE, 1, UINT64_MAX - 1}};
  const Outcome limit = Run(spec, Words({"true"}));
  EXPECT_EQ(limit.failure.step, Step::kRlimit) << Ending(limit);
  EXPECT_EQ(limit.failure.error, EPERM);
  EXPECT_THAT(limit.message, HasSubstr("can be raised only with CAP_SYS_RESOURCE"));

  Birthplace gone = Place();
  Remove(gone);
  const auto leaf = RunCold(Plan({}), Words({"true"}), gone, nullptr);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_EQ(leaf->failure.step, Step::kOpenLeaf) << Ending(*leaf);
  EXPECT_EQ(leaf->failure.error, ENOENT);
  EXPECT_THAT(leaf->message, HasSubstr("somebody removed the cgroup"));
}

// --- namespaces ---------------------------------------------------------------------------------

TEST_F(ColdTest, EachNamespaceCanBeTheHosts) {
  for (std::size_t host = 0; host < kNamespaceCount; ++host) {
    const auto kept = static_cast<NamespaceKind>(host);
    SCOPED_TRACE(NamespaceName(kept));
    Spec spec;
    spec.ns(kept).mode = NamespaceMode::kHost;
    std::string script;
    for (std::size_t i = 0; i < kNamespaceCount; ++i) {
      script += fmt::format("readlink /proc/self/ns/{};",
                            NamespaceProcName(static_cast<NamespaceKind>(i)));
    }
    const std::vector<std::string> inside = Lines(Output(spec, script));
    ASSERT_EQ(inside.size(), kNamespaceCount);
    for (std::size_t i = 0; i < kNamespaceCount; ++i) {
      const auto kind = static_cast<NamespaceKind>(i);
      EXPECT_EQ(inside[i] == NamespaceOf("self", kind), kind == kept) << NamespaceName(kind);
    }
  }
}

TEST_F(ColdTest, HostsMountsAreNotCopiedWhereTheKernelNeedNot) {
  const auto copies = [this](const Spec& spec) {
    return (Plan(spec).plan().clone_flags & kernel::kCloneEmptyMntns) == 0;
  };
  EXPECT_EQ(copies({}), !ThisMachine().empty_mounts);
  Spec capable;
  capable.capabilities = {"SYS_ADMIN"};
  EXPECT_TRUE(copies(capable)) << "it could look below its root";
}

TEST_F(ColdTest, AllNamespacesCanBeTheHosts) {
  Spec spec;
  for (NamespaceChoice& choice : spec.namespaces) choice.mode = NamespaceMode::kHost;
  const Outcome outcome = Run(spec, Shell("readlink /proc/self/ns/net; echo $$"));
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(outcome.out,
            fmt::format("{}\n{}\n", NamespaceOf("self", NamespaceKind::kNet), outcome.host_pid));
  EXPECT_EQ(outcome.inside_pid, outcome.host_pid);
}

// A process that sits in one new namespace of `kind`.
class Target {
 public:
  explicit Target(NamespaceKind kind) : kind_(kind) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd ready(ends[0]);
    UniqueFd tell(ends[1]);
    // Of a pid namespace it must be the init; the others it can as well be born in. A time
    // namespace is only for children.
    const unsigned long flags = kind == NamespaceKind::kTime ? 0 : NamespaceFlag(kind);
    pid_ = static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
    if (pid_ == 0) {
      if (kind == NamespaceKind::kTime && unshare(static_cast<int>(NamespaceFlag(kind))) != 0) {
        _exit(1);
      }
      if (write(tell.get(), "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    tell.reset();
    char byte = 0;
    EXPECT_EQ(read(ready.get(), &byte, 1), 1) << "making a namespace of its own";
    if (kind == NamespaceKind::kUser) {
      for (const char* file : {"gid_map", "uid_map"}) {
        std::ofstream(fmt::format("/proc/{}/{}", pid_, file)) << "0 0 65536\n";
      }
    }
  }
  ~Target() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  std::string path() const {
    return fmt::format("/proc/{}/ns/{}{}", pid_, NamespaceProcName(kind_),
                       kind_ == NamespaceKind::kTime ? "_for_children" : "");
  }

 private:
  const NamespaceKind kind_;
  pid_t pid_ = -1;
};

TEST_F(ColdTest, EachNamespaceCanBeJoined) {
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    SCOPED_TRACE(NamespaceName(kind));
    const Target target(kind);
    const std::string wanted = LinkText(target.path());
    ASSERT_NE(wanted, NamespaceOf("self", kind));
    Spec spec;
    spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
    spec.ns(kind) = {NamespaceMode::kJoin, target.path()};
    EXPECT_EQ(Output(spec, fmt::format("readlink /proc/self/ns/{}", NamespaceProcName(kind))),
              wanted + "\n");
  }
}

// With users of its own a worker has no privilege over namespaces of the host's users, unless it
// enters them before.
TEST_F(ColdTest, EachNamespaceCanBeJoinedWithAUserNamespaceOfItsOwn) {
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    if (kind == NamespaceKind::kUser) continue;
    SCOPED_TRACE(NamespaceName(kind));
    const Target target(kind);
    Spec spec;
    spec.ns(kind) = {NamespaceMode::kJoin, target.path()};
    const auto blueprint = Blueprint::Make(spec, PlanKind::kCold);
    // Refusing to plan it is an answer too; to start and fail inside is not.
    if (!blueprint.ok()) {
      EXPECT_THAT(std::string(Message(blueprint.status())), HasSubstr("user namespace"));
      continue;
    }
    const std::string script = fmt::format("readlink /proc/self/ns/{}", NamespaceProcName(kind));
    EXPECT_EQ(Output(spec, script), LinkText(target.path()) + "\n");
  }
}

TEST_F(ColdTest, JoinedPidNamespaceLeavesTheLauncherWhereItWas) {
  const Target target(NamespaceKind::kPid);
  Spec spec;
  spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  spec.ns(NamespaceKind::kPid) = {NamespaceMode::kJoin, target.path()};
  Command command = Shell("echo $$");
  const Outcome outcome = Run(spec, command);
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(outcome.out, "2\n") << "the second process of that namespace";
  EXPECT_EQ(LinkText("/proc/self/ns/pid_for_children"), LinkText("/proc/self/ns/pid"));
}

TEST_F(ColdTest, MayMakeNamespacesOfItsOwnWhenAskedForAndStaysBehindItsFences) {
  const std::string inner = "mount -t tmpfs none /tmp && mount -t proc none /proc && ps ax | wc -l";
  Spec spec;
  EXPECT_NE(Run(spec, Shell("unshare -Urpmf true")).exit_code, 0);
  spec.nesting = true;
  EXPECT_EQ(Output(spec, fmt::format("unshare -Urpmf sh -c '{}'", inner)), "4\n");
  // What was mounted for it is locked in its place, and stays as it was.
  for (const char* script : {"mount -o remount,bind,rw /", "umount /dev/brood", "umount /proc/sys",
                             "umount /proc", "mount -o remount,bind,rw /proc/sys"}) {
    EXPECT_NE(Run(spec, Shell(fmt::format("unshare -Urm {}", script))).exit_code, 0) << script;
  }
  EXPECT_EQ(Output(spec, "ls -A /dev/brood; touch /dev/brood/x 2>&1 | grep -c Read-only"), "1\n");
  // Only what it takes to map its own id.
  EXPECT_EQ(Output(spec, "grep CapEff /proc/self/status"), "CapEff:\t0000000080000000\n");
  spec.uid = spec.gid = 1000;
  EXPECT_EQ(Output(spec, "grep CapEff /proc/self/status; unshare -Ur id -u"),
            "CapEff:\t0000000000000000\n0\n");
}

TEST_F(ColdTest, ClocksAreShifted) {
  struct Case {
    milliseconds monotonic;
    milliseconds boottime;
    std::string_view text;
  };
  const Case cases[] = {
      {seconds(100'000), seconds(200'000), "monotonic 100000 0\nboottime 200000 0\n"},
      {milliseconds(-1500), milliseconds(250), "monotonic -2 500000000\nboottime 0 250000000\n"},
      {seconds(0), seconds(7), "monotonic 0 0\nboottime 7 0\n"},
  };
  for (const Case& test : cases) {
    for (const bool copies_memory : {false, true}) {
      Spec spec;
      spec.time_offsets = {test.monotonic, test.boottime};
      // Not enforced here, but such a worker does not share the launcher's memory.
      if (copies_memory) spec.limits.memory_bytes = 1ULL << 40;
      const std::vector<std::string> lines =
          Lines(Output(spec, "tr -s ' ' < /proc/self/timens_offsets; cat /proc/uptime"));
      ASSERT_EQ(lines.size(), 3U);
      EXPECT_EQ(lines[0] + "\n" + lines[1] + "\n", test.text);
      const double outside = std::stod(TextOf("/proc/uptime"));
      const double shift = std::chrono::duration<double>(test.boottime).count();
      EXPECT_NEAR(std::stod(lines[2]), outside + shift, 60);
    }
  }
}

TEST_F(ColdTest, SeesItsLeafAsTheWholeOfItsCgroup) {
  EXPECT_THAT(Lines(Output({}, "cat /proc/self/cgroup")),
              AllOf(Contains("0::/"), Each(::testing::EndsWith(":/"))));
  Spec spec;
  spec.ns(NamespaceKind::kCgroup).mode = NamespaceMode::kHost;
  EXPECT_THAT(Output(spec, "cat /proc/self/cgroup"), HasSubstr("/w2\n"))
      << "born in its leaf, whatever it sees";
}

TEST_F(ColdTest, HostsMountsNeverChange) {
  // In a mount namespace whose every mount passes events on, as on a systemd machine.
  const int status = InAFork([&] {
    if (unshare(CLONE_NEWNS) != 0) return 2;
    if (mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0) return 3;
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) return 4;
    const Blueprint blueprint = Plan({});
    const std::string before = TextOf("/proc/self/mountinfo");
    Command command = Shell("echo ready; read line");
    command.stdio = {StdioMode::kFds, {in[0], out[1], 2}, 0};
    Birthplace place;
    place.id_first = id_first_;
    auto worker = Start(blueprint, command, place);
    if (!worker.ok()) return 5;
    close(out[1]);
    char byte = 0;
    if (read(out[0], &byte, 1) != 1) {
      std::fprintf(stderr, "%s\n",
                   blueprint.Describe(worker->mailbox().failure, blueprint.plan().worker).c_str());
      return 6;
    }
    if (TextOf("/proc/self/mountinfo") != before) return 7;  // while it runs
    close(in[1]);
    const auto exit = Reap(worker->pidfd());
    worker->Reaped();
    if (!exit.ok()) return 8;
    return TextOf("/proc/self/mountinfo") == before ? 0 : 9;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// --- roots, mounts, devices ---------------------------------------------------------------------

TEST_F(ColdRootTest, ReadOnlyRootRefusesWrites) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  EXPECT_EQ(Output(Rooted(RootMode::kReadOnly),
                   "cat /etc/original; stat -c %u:%g /etc/original;"
                   "for d in / /etc /mnt /dev; do touch $d/x 2>/dev/null && echo wrote $d; done;"
                   "touch /tmp/x && ls /"),
            "original\n0:0\nbin\ndata\ndev\netc\nmnt\nproc\nrun\nsys\ntmp\n");
}

TEST_F(ColdRootTest, WritableRootKeepsWritesWithTheirOwner) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  Spec spec = Rooted(RootMode::kReadWrite);
  EXPECT_EQ(
      Output(spec, "echo new > /etc/new; touch /etc/theirs; mkdir /etc/made; stat -c %u /etc/new"),
      "0\n");
  EXPECT_EQ(TextOf(root_ / "etc/new"), "new\n");
  struct stat info {};
  ASSERT_EQ(stat((root_ / "etc/new").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0U) << "the worker's root writes as the root's owner";
  EXPECT_EQ(info.st_mode & 07777, 0644U);

  spec.uid = 1000;
  spec.gid = 1001;
  fs::permissions(root_ / "data", fs::perms::all);
  EXPECT_EQ(Output(spec, "touch /data/mine; stat -c %u:%g /data/mine"), "1000:1001\n");
  ASSERT_EQ(stat((root_ / "data/mine").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 1000U);
  EXPECT_EQ(info.st_gid, 1001U);
}

TEST_F(ColdRootTest, OverlayForgetsWrites) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const Spec spec = Rooted(RootMode::kOverlay);
  EXPECT_EQ(Output(spec,
                   "echo changed > /etc/original; touch /new; rm -r /mnt;"
                   "cat /etc/original; ls /"),
            "changed\nbin\ndata\ndev\netc\nnew\nproc\nrun\nsys\ntmp\n");
  EXPECT_EQ(TextOf(root_ / "etc/original"), "original\n");
  EXPECT_FALSE(fs::exists(root_ / "new"));
  EXPECT_TRUE(fs::exists(root_ / "mnt"));
  EXPECT_EQ(Output(spec, "cat /etc/original"), "original\n") << "nor does the next one see them";
}

TEST_F(ColdRootTest, OverlayHasItsSize) {
  Spec spec = Rooted(RootMode::kOverlay);
  spec.root.overlay_bytes = 1 << 20;
  const Outcome outcome = Run(spec, Shell("dd if=/dev/zero of=/big bs=100k count=40"));
  EXPECT_NE(outcome.exit_code, 0) << Ending(outcome);
  EXPECT_THAT(outcome.err, HasSubstr("No space left on device"));
}

TEST_F(ColdRootTest, TmpfsHaveTheirSizes) {
  Spec spec = Rooted(RootMode::kReadOnly);
  spec.tmp_bytes = 1 << 20;
  spec.tmpfs = {{.target = "/mnt", .bytes = 1 << 20, .mode = 0700},
                {.target = "/tmp/scratch", .bytes = 1 << 20, .mode = 01777}};
  for (const char* place : {"/tmp", "/dev/shm", "/mnt", "/tmp/scratch"}) {
    const Outcome outcome =
        Run(spec, Shell(fmt::format("dd if=/dev/zero of={0}/fits bs=100k count=9 && echo fits;"
                                    "dd if=/dev/zero of={0}/beyond bs=100k count=9",
                                    place)));
    EXPECT_EQ(outcome.out, "fits\n") << place;
    EXPECT_NE(outcome.exit_code, 0) << place;
    EXPECT_THAT(outcome.err, HasSubstr("No space left on device")) << place;
  }
  EXPECT_EQ(Output(spec, "stat -c %a /mnt /tmp/scratch"), "700\n1777\n");
}

TEST_F(ColdRootTest, BindsShowTheHostsFiles) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const fs::path shared = directory_ / "shared";
  fs::create_directories(shared);
  std::ofstream(shared / "note") << "note\n";
  const std::string file = Write("file", "one file\n");
  Spec spec = Rooted(RootMode::kReadOnly);
  spec.binds = {{shared, "/mnt", true},         {shared, "/data", false},
                {file, "/etc/original", true},  {shared, "/tmp/made/below", false},
                {file, "/tmp/made/file", true}, {shared, "/dev/shared", true}};
  EXPECT_EQ(Output(spec,
                   "cat /mnt/note /data/note /etc/original /tmp/made/below/note /tmp/made/file"
                   "    /dev/shared/note;"
                   "touch /mnt/x 2>/dev/null && echo wrote ro;"
                   "(echo y > /etc/original) 2>/dev/null && echo wrote ro;"
                   "(echo y > /tmp/made/file) 2>/dev/null && echo wrote ro;"
                   "echo back > /data/back; touch /tmp/made/below/back2; cat /mnt/back"),
            "note\nnote\none file\nnote\none file\nnote\nback\n");
  EXPECT_EQ(TextOf(shared / "back"), "back\n");
  EXPECT_EQ(TextOf(file), "one file\n");
  struct stat info {};
  ASSERT_EQ(stat((shared / "back2").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0U);
}

TEST_F(ColdRootTest, BindsIntoTheHostsTree) {
  const std::string file = Write("file", "one file\n");
  Spec spec;
  spec.binds = {
      {file, "/etc/hostname", true}, {file, "/run/made/file", true}, {file, "/tmp/file", true}};
  if (!fs::is_regular_file("/etc/hostname")) GTEST_SKIP() << "missing: /etc/hostname";
  EXPECT_EQ(Output(spec, "cat /etc/hostname /run/made/file /tmp/file"),
            "one file\none file\none file\n");
}

TEST_F(ColdRootTest, DevicesAndSetuidOfARootMeanNothing) {
  ASSERT_EQ(mknod((root_ / "data/zero").c_str(), S_IFCHR | 0666, makedev(1, 5)), 0);
  chmod((root_ / "bin/busybox").c_str(), 04755);
  for (const RootMode mode : {RootMode::kReadOnly, RootMode::kReadWrite, RootMode::kOverlay}) {
    Spec spec = Rooted(mode);
    spec.uid = 1000;
    spec.gid = 1000;
    EXPECT_EQ(Output(spec,
                     "head -c 1 /data/zero 2>/dev/null | wc -c; id -u;"
                     "grep -E '^Uid' /proc/self/status"),
              "0\n1000\nUid:\t1000\t1000\t1000\t1000\n");
  }
}

TEST_F(ColdRootTest, RootsLinksStayInside) {
  const std::string secret = Write("secret", "secret\n");
  fs::create_symlink(secret, root_ / "data/absolute");
  fs::create_symlink("../../../../../.." + secret, root_ / "data/relative");
  const Outcome outcome = Run(Rooted(RootMode::kReadOnly),
                              Shell("cat /data/absolute /data/relative /../../etc/original"));
  EXPECT_EQ(outcome.out, "original\n");
}

TEST_F(ColdRootTest, OldRootIsGone) {
  EXPECT_THAT(Output(Rooted(RootMode::kReadOnly), "cat /proc/self/mountinfo"),
              Not(HasSubstr(" / / ")))
      << "no mount of a whole host filesystem";
}

TEST_F(ColdTest, WhatTellsOfTheHostIsCovered) {
  for (const NamespaceMode users : {NamespaceMode::kNew, NamespaceMode::kHost}) {
    Spec spec;
    spec.ns(NamespaceKind::kUser).mode = users;
    SCOPED_TRACE(users == NamespaceMode::kNew ? "users of its own" : "the host's users");
    // Opening for append writes nothing, so even an uncovered trigger would do no harm.
    EXPECT_EQ(Output(spec,
                     "for f in kcore keys timer_list latency_stats sched_debug interrupts; do"
                     "  n=$(head -c 1 /proc/$f 2>/dev/null | wc -c);"
                     "  [ $n = 0 ] || echo read $f; done;"
                     "for f in sysrq-trigger sys/kernel/hostname sys/vm/drop_caches"
                     "    sys/kernel/core_pattern irq/default_smp_affinity; do"
                     "  [ -e /proc/$f ] || continue;"
                     "  (: >> /proc/$f) 2>/dev/null && echo wrote $f; done;"
                     "for d in /proc/acpi /proc/asound /proc/scsi /run; do"
                     "  ls -A $d 2>/dev/null; done; true"),
              "")
        << "nothing read, nothing written";
  }
}

// --- ids and privileges -------------------------------------------------------------------------

TEST_F(ColdTest, UserAndGroupAreAsAsked) {
  struct Case {
    std::uint32_t uid;
    std::uint32_t gid;
  };
  for (const Case& test :
       {Case{0, 0}, Case{1000, 1001}, Case{0, 5}, Case{5, 0}, Case{65535, 65535}}) {
    Spec spec;
    spec.uid = test.uid;
    spec.gid = test.gid;
    EXPECT_EQ(Output(spec, "id -u; id -g; id -G"),
              fmt::format("{}\n{}\n{}\n", test.uid, test.gid, test.gid));
    spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
    EXPECT_EQ(Output(spec, "id -u; id -g; id -G"),
              fmt::format("{}\n{}\n{}\n", test.uid, test.gid, test.gid))
        << "of the host";
  }
}

TEST_F(ColdTest, HostIdsAreItsRanges) {
  EXPECT_EQ(Output({}, "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map"),
            fmt::format(" 0 {0} 65536\n 0 {0} 65536\n", id_first_));
}

TEST_F(ColdTest, KeepsTheCapabilitiesAskedFor) {
  const std::uint64_t mask = 1ULL << CAP_NET_RAW | 1ULL << CAP_CHOWN;
  for (const NamespaceMode users : {NamespaceMode::kNew, NamespaceMode::kHost}) {
    for (const std::uint32_t uid : {0U, 1000U}) {
      Spec spec;
      spec.ns(NamespaceKind::kUser).mode = users;
      spec.uid = spec.gid = uid;
      spec.capabilities = {"NET_RAW", "cap_chown"};
      const std::string status = Output(spec, Words({"cat", "/proc/self/status"}));
      for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
        EXPECT_THAT(status, HasSubstr(fmt::format("{}:\t{:016x}\n", set, mask)))
            << "uid " << uid << (users == NamespaceMode::kNew ? " inside" : " of the host");
      }
      EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1\n"));
    }
  }
}

TEST_F(ColdTest, RlimitsAreSet) {
  Spec spec;
  spec.rlimits = {{RLIMIT_NOFILE, 77, 99}, {RLIMIT_CORE, 0, 0}};
  EXPECT_EQ(Output(spec, "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc"), "77\n99\n0\n0\n");
  rlimit ours{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &ours), 0);
  EXPECT_NE(ours.rlim_cur, 77U);
}

// --- what the launcher is and holds -------------------------------------------------------------

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

// Holds workers born in one leaf before their first instruction.
class Frozen {
 public:
  explicit Frozen(const std::string& leaf) : file_(leaf + "/cgroup.freeze") {
    std::ofstream(file_) << "1";
  }
  ~Frozen() { std::ofstream(file_) << "0"; }

 private:
  const std::string file_;
};

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

// --- stdio --------------------------------------------------------------------------------------

TEST_F(ColdTest, CaptureIsBounded) {
  Command command = Shell("head -c 3145728 /dev/zero; head -c 2000 /dev/zero >&2");
  command.stdio.capture_bytes = 1 << 20;
  const Outcome outcome = Run({}, command);
  EXPECT_TRUE(outcome.ok()) << EndName(outcome.end);
  EXPECT_EQ(outcome.out.size(), 1U << 20);
  EXPECT_EQ(outcome.out_bytes, 3U << 20);
  EXPECT_EQ(outcome.err.size(), 2000U);
  EXPECT_EQ(outcome.err_bytes, 2000U);
  EXPECT_TRUE(outcome.truncated());
  command.stdio.capture_bytes = 0;
  const Outcome counted = Run({}, command);
  EXPECT_EQ(counted.out, "");
  EXPECT_EQ(counted.out_bytes, 3U << 20);
}

TEST_F(ColdTest, CaptureEndsWithTheWorker) {
  // Left behind in the background, a process would keep the pipe open for ever.
  for (const NamespaceMode pids : {NamespaceMode::kNew, NamespaceMode::kHost}) {
    Spec spec;
    spec.ns(NamespaceKind::kPid).mode = pids;
    EXPECT_EQ(Output(spec, "sleep 1000 & echo done"), "done\n");
  }
}

TEST_F(ColdTest, NullIsNull) {
  Command command = Shell(
      "cat | wc -c > /tmp/n; [ $(cat /tmp/n) = 0 ] || exit 3;"
      "for n in 0 1 2; do [ /proc/self/fd/$n -ef /dev/null ] || exit 4; done;"
      "echo x && echo y >&2");
  command.stdio.mode = StdioMode::kNull;
  const Outcome outcome = Run({}, command);
  EXPECT_EQ(outcome.out_bytes, 0U);
  // The launcher's /dev/null is another file system's than the worker's.
  EXPECT_EQ(outcome.end, End::kExited) << Ending(outcome);
  EXPECT_NE(outcome.exit_code, 3);
}

TEST_F(ColdRootTest, DescriptorsComeInAnyArrangement) {
  // The launcher's own 0, 1 and 2 hold what shall become others of them.
  const std::array<int, 3> cases[] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1},
                                      {2, 1, 0}, {7, 8, 9}, {7, 1, 0}, {2, 8, 1}, {1, 0, 700}};
  const std::string in = Write("in", "input\n");
  const std::string out = directory_ / "out";
  const std::string err = directory_ / "err";
  for (const std::array<int, 3>& fds : cases) {
    SCOPED_TRACE(fmt::format("{} {} {}", fds[0], fds[1], fds[2]));
    fs::remove(out);
    fs::remove(err);
    const int status = InAFork([&] {
      int high[3] = {open(in.c_str(), O_RDONLY | O_CLOEXEC),
                     open(out.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644),
                     open(err.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
      for (int& fd : high) fd = fcntl(fd, F_DUPFD_CLOEXEC, 800);
      for (std::size_t i = 0; i < 3; ++i) {
        if (dup3(high[i], fds[i], O_CLOEXEC) < 0) return 2;
      }
      Command command = Shell("cat; echo error >&2");
      command.stdio = {StdioMode::kFds, fds, 0};
      Birthplace place;
      place.id_first = id_first_;
      const auto outcome = RunCold(Plan({}), command, place, nullptr);
      return outcome.ok() && outcome->ok() ? 0 : 3;
    });
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(TextOf(out), "input\n");
    EXPECT_EQ(TextOf(err), "error\n");
  }
}

TEST_F(ColdRootTest, LauncherWithClosedStdioGivesNothingOfItsOwn) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const std::string result = directory_ / "result";
  for (const StdioMode mode : {StdioMode::kInherit, StdioMode::kNull, StdioMode::kCapture}) {
    SCOPED_TRACE(static_cast<int>(mode));
    const int status = InAFork([&] {
      close_range(0, 2, 0);
      Command command =
          Shell("for n in 0 1 2; do readlink /proc/$$/fd/$n; done > /data/fds; echo out");
      command.stdio.mode = mode;
      Spec spec = Rooted(RootMode::kReadWrite);
      Birthplace place;
      place.id_first = id_first_;
      const auto outcome = RunCold(Plan(spec), command, place, nullptr);
      if (!outcome.ok() || !outcome->ok()) return 2;
      return mode != StdioMode::kCapture || outcome->out == "out\n" ? 0 : 3;
    });
    EXPECT_EQ(WEXITSTATUS(status), 0);
    const std::vector<std::string> fds = Lines(TextOf(root_ / "data/fds"));
    ASSERT_EQ(fds.size(), 3U);
    EXPECT_EQ(fds[0], "/dev/null");
    EXPECT_THAT(fds[2],
                mode == StdioMode::kCapture ? StartsWith("pipe:") : StartsWith("/dev/null"));
    fs::remove(root_ / "data/fds");
  }
}

TEST_F(ColdTest, SlowReaderLosesNothing) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  std::string got;
  std::thread reader([&] {
    char buffer[40'000];
    for (ssize_t n = 0; (n = read(from.get(), buffer, sizeof(buffer))) > 0;) {
      got.append(buffer, static_cast<std::size_t>(n));
      std::this_thread::sleep_for(milliseconds(2));
    }
  });
  Command command = Shell("head -c 1000000 /dev/zero | cat; echo THE END");
  command.stdio = {StdioMode::kFds, {from.get(), to.get(), to.get()}, 0};
  const Outcome outcome = Run({}, command);
  to.reset();
  reader.join();
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(got.size(), 1'000'008U);
  EXPECT_TRUE(got.ends_with("THE END\n"));
}

// --- ends ---------------------------------------------------------------------------------------

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

// --- as others ----------------------------------------------------------------------------------

class ColdAsOthersTest : public ColdTest {
 protected:
  // Runs the tests for anybody in a fresh process of this program, after `become`.
  static void RunAs(const std::function<bool()>& become) {
    const UniqueFd program(open("/proc/self/exe", O_RDONLY));
    const std::string log =
        fs::path(::testing::TempDir()) / fmt::format("brood_cold_{}.log", getpid());
    const UniqueFd output(open(log.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
    ASSERT_TRUE(program.valid() && output.valid());
    const int status = InAFork([&] {
      if (!become()) return 99;
      dup2(output.get(), 1);
      dup2(output.get(), 2);
      const char* argv[] = {"cold_test", "--gtest_filter=ColdAnywhereTest.*", "--gtest_color=no",
                            nullptr};
      const char* envp[] = {"PATH=/usr/bin:/bin", nullptr};
      return fexecve(program.get(), const_cast<char**>(argv), const_cast<char**>(envp)), 98;
    });
    const std::string text = TextOf(log);
    fs::remove(log);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) GTEST_SKIP() << "missing: user namespaces";
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
    EXPECT_THAT(text, HasSubstr("PASSED"));
  }

  static bool BecomeNobody() {
    return setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 &&
           setresuid(65534, 65534, 65534) == 0;
  }

  static bool WriteTo(const char* file, const char* text) {
    const UniqueFd fd(open(file, O_WRONLY | O_CLOEXEC));
    return write(fd.get(), text, strlen(text)) == static_cast<ssize_t>(strlen(text));
  }

  // As `unshare -Ur` does.
  static bool BecomeFakeRoot(int more_namespaces) {
    if (!BecomeNobody()) return false;
    prctl(PR_SET_DUMPABLE, 1);  // its own /proc files are its own again
    return unshare(CLONE_NEWUSER | more_namespaces) == 0 &&
           WriteTo("/proc/self/setgroups", "deny") && WriteTo("/proc/self/gid_map", "0 65534 1") &&
           WriteTo("/proc/self/uid_map", "0 65534 1");
  }
};

TEST_F(ColdAsOthersTest, OrdinaryUser) { RunAs(BecomeNobody); }

TEST_F(ColdAsOthersTest, FakeRootOfAUserNamespace) {
  RunAs([] { return BecomeFakeRoot(0); });
}

TEST_F(ColdAsOthersTest, FakeRootWithMountsOfItsOwn) {
  RunAs([] { return BecomeFakeRoot(CLONE_NEWNS); });
}

TEST_F(ColdAsOthersTest, RootOfAUserNamespaceWithARange) {
  // As a rootless container: many ids, but none of those that ranges come from.
  int ends[2];
  int answer[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(answer, O_CLOEXEC), 0);
  const UniqueFd in(ends[0]), out(ends[1]), answer_in(answer[0]), answer_out(answer[1]);
  std::thread mapper([&] {
    pid_t pid = -1;
    if (read(in.get(), &pid, sizeof(pid)) != sizeof(pid)) return;
    for (const char* file : {"gid_map", "uid_map"}) {
      std::ofstream(fmt::format("/proc/{}/{}", pid, file)) << "0 1610612736 65536\n";
    }
    (void)!write(answer_out.get(), "x", 1);
  });
  RunAs([&] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    const pid_t pid = getpid();
    char byte = 0;
    return write(out.get(), &pid, sizeof(pid)) == sizeof(pid) &&
           read(answer_in.get(), &byte, 1) == 1 && setresgid(0, 0, 0) == 0 &&
           setresuid(0, 0, 0) == 0;
  });
  mapper.join();
}

// --- the watcher itself -------------------------------------------------------------------------

TEST(MachineStateTest, SeesDescriptorsMountsCgroupsAndChildren) {
  BROOD_NEEDS_ROOT();
  const MachineState before = MachineState::Take();
  EXPECT_EQ(MachineState::Diff(before, MachineState::Take()), "");
  {
    const UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_THAT(MachineState::Diff(before, MachineState::Take()),
                HasSubstr(fmt::format("+ fd {} -> /dev/null\n", fd.get())));
  }
  // A zombie that tells nobody of its end.
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone, 0, nullptr, nullptr, nullptr, 0));
  if (pid == 0) _exit(0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | __WALL), 0);
  EXPECT_THAT(MachineState::Diff(before, MachineState::Take()),
              HasSubstr(fmt::format("+ child {} Z ", pid)));
  ASSERT_EQ(waitpid(pid, nullptr, __WALL), pid);

  const auto host = CgroupHost::Discover();
  if (host.ok() && !host->base.empty()) {
    const std::string name = fmt::format("brood_test_{}", getpid());
    ASSERT_EQ(mkdir((host->base + "/" + name).c_str(), 0755), 0);
    EXPECT_THAT(MachineState::Diff(before, MachineState::Take()), HasSubstr("+ cgroup " + name));
    ASSERT_EQ(rmdir((host->base + "/" + name).c_str()), 0);
  }
  EXPECT_EQ(MachineState::Diff(before, MachineState::Take()), "");

  const int status = InAFork([] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return 2;
    }
    const MachineState then = MachineState::Take();
    if (mount("tmpfs", "/mnt", "tmpfs", 0, nullptr) != 0) return 3;
    const std::string diff = MachineState::Diff(then, MachineState::Take());
    return diff.starts_with("+ mount ") && diff.find("/mnt") != std::string::npos ? 0 : 4;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace brood
