// SPDX-License-Identifier: Apache-2.0

// The cold path as anybody may take it: every namespace and default as the command sees it.
#include "tests/kernel/cold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/text_file.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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

// As brood exec does. Whoever has no privilege of his own sends a setns helper in.
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

}  // namespace
}  // namespace brood
