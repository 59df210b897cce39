// SPDX-License-Identifier: Apache-2.0

// `brood run` as its users meet it: exit statuses, sentences, signals, and what is left when it is
// done, interrupted or killed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/cgroup_host.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class RunTest : public LeavesNothing {
 protected:
  void SetUp() override {
    ASSERT_EQ(access(BROOD_PROGRAM, X_OK), 0) << "missing: " << BROOD_PROGRAM;
    LeavesNothing::SetUp();
    fs::create_directories(directory_);
  }
  void TearDown() override {
    fs::remove_all(directory_);
    LeavesNothing::TearDown();
  }

  std::string Json() const { return "--json=" + (directory_ / "o.json").string(); }

  static int Status(const Words& arguments) {
    Brood brood(Words{"run"} + arguments);
    return brood.Wait();
  }

  const fs::path directory_ =
      fs::path(::testing::TempDir()) / fmt::format("brood_run_{}", getpid());
};

// --- exit statuses ------------------------------------------------------------------------------

TEST_F(RunTest, ExitStatusTellsHowItWent) {
  struct Case {
    std::string_view name;
    Words arguments;
    int status;
    std::string_view error;
  };
  const std::vector<Case> cases = {
      {"success", {"--", "true"}, 0, ""},
      {"without dashes", {"true"}, 0, ""},
      {"the command's", Shell("exit 7"), 7, ""},
      {"the highest", Shell("exit 255"), 255, ""},
      {"a signal", Words{"--no-pid"} + Shell("kill -TERM $$"), 143, ""},
      {"timeout", {"--timeout", "100ms", "--", "sleep", "1000"}, 124, "time was up"},
      {"brood's own", {"--rootfs", "/nonexistent", "--", "true"}, 125, "/nonexistent"},
      {"not executable", {"--", "/etc/passwd"}, 126, "executing /etc/passwd: EACCES"},
      {"a directory", {"--", "/etc"}, 126, "executing /etc: EACCES"},
      {"not found", {"--", "no-such-program"}, 127, "executing no-such-program: ENOENT"},
      {"no such path", {"--", "/no/such/program"}, 127, "executing /no/such/program: ENOENT"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    Brood brood(Words{"run"} + test.arguments);
    EXPECT_EQ(brood.Wait(), test.status) << brood.err();
    EXPECT_EQ(brood.out(), "");
    if (test.error.empty()) {
      EXPECT_EQ(brood.err(), "");
    } else {
      EXPECT_THAT(brood.err(), StartsWith("brood: "));
      EXPECT_THAT(brood.err(), HasSubstr(std::string(test.error)));
    }
  }
}

TEST_F(RunTest, StatusSurvivesALauncherThatIgnoresItsChildren) {
  // Handed down by many a supervisor; it lets the kernel throw exit statuses away.
  Brood brood(Words{"run"} + Shell("exit 7"), [] { signal(SIGCHLD, SIG_IGN); });
  EXPECT_EQ(brood.Wait(), 7) << brood.err();
}

TEST_F(RunTest, OptionsAfterTheCommandAreTheCommands) {
  Brood brood({"run", "--", "echo", "--json", "-x", "--", "--timeout"});
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_EQ(brood.out(), "--json -x -- --timeout\n");
}

TEST_F(RunTest, OptionsThatMayBeGivenAgainTakeOneWordEach) {
  for (const Words& options :
       {Words{"-e", "A=b"}, Words{"-v", "/etc:/mnt"}, Words{"--tmpfs", "/mnt"},
        Words{"--cap-add", "NET_RAW"}, Words{"--rlimit", "NOFILE=99"}}) {
    Brood brood(Words{"run"} + options + Words{"echo", "run"});
    EXPECT_EQ(brood.Wait(), 0) << options[0] << ": " << brood.err();
    EXPECT_EQ(brood.out(), "run\n");
  }
}

TEST_F(RunTest, InputAndOutputAreTheCallers) {
  const fs::path file = directory_ / "input";
  std::ofstream(file) << "from the caller\n";
  Brood brood({"run", "--", "/bin/sh", "-c", "cat; echo error >&2"},
              [&] { dup2(open(file.c_str(), O_RDONLY | O_CLOEXEC), 0); });
  EXPECT_EQ(brood.Wait(), 0);
  EXPECT_EQ(brood.out(), "from the caller\n");
  EXPECT_EQ(brood.err(), "error\n");
}

TEST_F(RunTest, ClosedStdioIsNoTrap) {
  for (int closed = 0; closed < 8; ++closed) {
    SCOPED_TRACE(closed);
    // A descriptor of brood's own in one of these places would let the command write into it.
    Brood brood(Words{"run"} + Shell("cat; echo out; echo err >&2; exit 5"), [&] {
      for (int fd = 0; fd < 3; ++fd) {
        if ((closed >> fd & 1) != 0) close(fd);
      }
    });
    EXPECT_EQ(brood.Wait(), 5);
    EXPECT_EQ(brood.out(), (closed & 2) != 0 ? "" : "out\n");
    EXPECT_EQ(brood.err(), (closed & 4) != 0 ? "" : "err\n");
  }
}

TEST_F(RunTest, EnvironmentIsWhatWasAskedFor) {
  const auto with_variable = [] { setenv("BROOD_TEST_VARIABLE", "handed on", 1); };
  {
    Brood brood({"run", "-e", "BROOD_TEST_VARIABLE", "-e", "A=1", "-e", "A=2", "-e", "PATH=/bin",
                 "--clear-env", "--", "/usr/bin/env"},
                with_variable);
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
    EXPECT_EQ(brood.out(), "BROOD_TEST_VARIABLE=handed on\nA=2\nPATH=/bin\n");
  }
  Brood brood({"run", "--", "env"}, with_variable);
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_THAT(brood.out(), Not(HasSubstr("BROOD_TEST_VARIABLE")));
}

TEST_F(RunTest, ClocksCanBeSetForwardAndBack) {
  Brood brood(Words{"run", "--monotonic-offset", "-5s", "--boottime-offset", "1h"} +
              Shell("tr -s ' ' < /proc/self/timens_offsets"));
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_EQ(brood.out(), "monotonic -5 0\nboottime 3600 0\n");
}

// --- report and help ----------------------------------------------------------------------------

TEST_F(RunTest, JsonGoesToStderrOrToAFile) {
  {
    Brood brood(Words{"run", "--json"} + Shell("echo out; exit 7"));
    EXPECT_EQ(brood.Wait(), 7);
    EXPECT_EQ(brood.out(), "out\n");
    const auto json = nlohmann::json::parse(brood.err(), nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(json.is_object()) << brood.err();
    EXPECT_EQ(json["end"], "exited");
    EXPECT_EQ(json["exit_code"], 7);
    EXPECT_EQ(json["spawn_path"], "cold");
  }
  const fs::path file = directory_ / "outcome.json";
  Brood brood(Words{"run", "--json=" + file.string()} + Shell("exit 8"));
  EXPECT_EQ(brood.Wait(), 8);
  EXPECT_EQ(brood.err(), "");
  const auto json = nlohmann::json::parse(ReadText(file), nullptr, false);
  ASSERT_TRUE(json.is_object()) << ReadText(file);
  EXPECT_EQ(json["exit_status"], 8);
}

TEST_F(RunTest, JsonTellsOfFailuresToo) {
  Brood brood({"run", Json(), "--", "no-such-program"});
  EXPECT_EQ(brood.Wait(), 127);
  const auto json = nlohmann::json::parse(ReadText(directory_ / "o.json"), nullptr, false);
  ASSERT_TRUE(json.is_object()) << brood.err();
  EXPECT_EQ(json["end"], "setup_failed");
  EXPECT_EQ(json["failure"]["step"], "exec");
  EXPECT_EQ(json["failure"]["errno"], ENOENT);
}

TEST_F(RunTest, JsonOfWordsThatAreNoUtf8) {
  Brood brood({"run", Json(), "--", "\xff\xfe"});
  EXPECT_EQ(brood.Wait(), 127) << brood.err();
  EXPECT_TRUE(nlohmann::json::accept(ReadText(directory_ / "o.json")));
}

TEST_F(RunTest, JsonThatCannotBeWrittenIsBroodsFailure) {
  Brood brood({"run", "--json=" + (directory_ / "none/o.json").string(), "--", "true"});
  EXPECT_EQ(brood.Wait(), 125);
  EXPECT_THAT(brood.err(), StartsWith("brood: writing the outcome to "));
  EXPECT_THAT(brood.err(), HasSubstr("ENOENT"));
}

TEST_F(RunTest, HelpIsOnStdout) {
  for (const Words& arguments : {Words{"--help"}, Words{"run", "--help"}, Words{"--help-all"}}) {
    Brood brood(arguments);
    EXPECT_EQ(brood.Wait(), 0);
    EXPECT_EQ(brood.err(), "");
    EXPECT_THAT(brood.out(), HasSubstr("Usage: brood"));
  }
  Brood brood({"run", "--help"});
  brood.Wait();
  for (const char* piece : {"Exit status: the command's", "--rootfs DIR", "--seccomp",
                            "--cap-add CAP", "--memory SIZE", "--timeout DURATION"}) {
    EXPECT_THAT(brood.out(), HasSubstr(piece));
  }
}

// --- bad input ----------------------------------------------------------------------------------

struct BadCase {
  std::string name;
  Words arguments;  // after "run"; without a command, `-- true` follows
  std::string sentence;
};

class BadInputTest : public RunTest {
 protected:
  static void ExpectRefused(const Words& arguments, const std::string& sentence) {
    Brood brood(arguments);
    EXPECT_EQ(brood.Wait(), 125);
    EXPECT_EQ(brood.out(), "");
    const std::string err = brood.err();
    EXPECT_THAT(err, StartsWith("brood: "));
    EXPECT_THAT(err, HasSubstr(sentence));
    EXPECT_THAT(err, EndsWith("\n"));
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << "one sentence: " << err;
    EXPECT_LT(err.size(), 1000U);
  }
};

TEST_F(BadInputTest, IsRefusedInOneSentence) {
  const std::string here = directory_;
  const std::string file = directory_ / "file";
  std::ofstream(file) << "{";
  fs::create_directories(directory_ / "bare");
  const std::vector<BadCase> cases = {
      {"unknown user", {"-u", "no-such-user-here"}, "there is no user \"no-such-user-here\""},
      {"unknown group", {"-u", "0:no-such-group"}, "there is no group \"no-such-group\""},
      {"empty user", {"-u", ":"}, "give a number"},
      {"negative user", {"--user=-1"}, "give a number"},
      {"user beyond 32 bits", {"-u", "4294967296"}, "give a number"},
      {"user that means unchanged", {"-u", "4294967295"}, "4294967295 is not an id"},

      {"relative root that is not there", {"--rootfs", "no/such/root"}, "the root directory"},
      {"missing root", {"--rootfs", here + "/none"}, here + "/none: ENOENT"},
      {"root is a file", {"--rootfs", file}, "ENOTDIR"},
      {"root without /proc", {"--rootfs", here + "/bare"}, "has no directory /proc"},
      {"unknown mode", {"--rootfs", here, "--root-mode", "rx"}, "not \"rx\""},
      {"mode without a root", {"--root-mode", "rw"}, "needs --rootfs"},
      {"overlay size of nothing", {"--overlay-size", "0"}, "at least one byte"},

      {"bind without a target", {"-v", "/etc"}, "is not a bind"},
      {"bind with an empty target", {"-v", "/etc:"}, ""},
      {"bind of nothing", {"-v", ":/etc"}, "is not a bind"},
      {"bind from a missing path", {"-v", here + "/none:/mnt"}, here + "/none: ENOENT"},
      {"bind onto a missing path", {"-v", here + ":/none/at/all"}, "/none/at/all"},
      {"bind to a relative path", {"-v", here + ":mnt"}, "must be an absolute path"},
      {"bind that climbs", {"-v", here + ":/mnt/../etc"}, "may not contain \"..\""},
      {"bind with an unknown mode", {"-v", here + ":/mnt:exec"}, "only ro and rw"},
      {"bind on the root", {"-v", here + ":/"}, "cannot replace the root"},
      {"bind on /proc", {"-v", here + ":/proc/sys"}, "/proc is the worker's own"},
      {"bind of a directory on a file", {"-v", here + ":/etc/passwd"}, "it is not a directory"},
      {"tmpfs on a missing path", {"--tmpfs", "/none"}, "/none"},
      {"tmpfs without a target", {"--tmpfs", ":1M"}, ""},
      {"tmpfs without a size", {"--tmpfs", "/mnt:"}, "is not a size"},

      {"size that overflows", {"--tmp-size", "99999999999999999999G"}, "beyond"},
      {"size beyond a double", {"--tmp-size", std::string(400, '9')}, "is not a size"},
      {"negative size", {"--tmp-size=-1M"}, "at least one byte"},
      {"size that is no number", {"--tmp-size", "nan"}, "is not a size"},
      {"memory of nothing", {"--memory", "0"}, "at least one byte"},
      {"duration that overflows", {"--timeout", "999999999999h"}, "over a century"},
      {"endless duration", {"--timeout", "inf"}, "is not a duration"},
      {"no time", {"--timeout", "0"}, "longer than zero"},
      {"negative time", {"--timeout=-5s"}, "longer than zero"},
      {"fractional pids", {"--pids", "1.5"}, "--pids must be a whole number"},
      {"no pids", {"--pids", "0"}, "--pids must be a whole number"},
      {"pids that overflow", {"--pids", "18446744073709551617"}, "--pids must be a whole number"},
      {"no cpus", {"--cpus", "0"}, "is not a number of cpus"},
      {"hexadecimal cpus", {"--cpus", "0x1"}, "is not a number of cpus"},
      {"unknown rlimit", {"--rlimit", "FILES=5"}, "is not a resource limit"},
      {"rlimit without a value", {"--rlimit", "NOFILE"}, "is not a resource limit"},
      {"soft above hard", {"--rlimit", "NOFILE=6:5"}, "above the hard limit"},

      {"unknown capability", {"--cap-add", "NET_ADMN"}, "did you mean CAP_NET_ADMIN?"},
      {"missing profile", {"--seccomp", here + "/none"}, "the seccomp profile"},
      {"broken profile", {"--seccomp", file}, file},
      {"profile is a directory", {"--seccomp", here}, here},
      {"unknown network", {"--net", "bridge"}, "not \"bridge\""},
      {"long hostname", {"--hostname", std::string(65, 'h')}, "the kernel takes 64"},
      {"relative directory", {"-w", "tmp"}, "must be an absolute path"},
      {"variable that is not set", {"-e", "BROOD_NO_SUCH_VARIABLE"}, "no such variable"},
      {"variable without a name", {"-e", "=x"}, "must be NAME=value"},
      {"missing namespace",
       {"--no-user", "--join-net", here + "/none"},
       here + "/none to join: ENOENT"},
      {"no namespace", {"--no-user", "--join-net", file}, "is not a net namespace"},
      {"another namespace",
       {"--no-user", "--join-net", "/proc/self/ns/uts"},
       "is not a net namespace"},

      {"new and joined", {"--no-uts", "--join-uts", "/proc/self/ns/uts"}, "exclude each other"},
      {"host's and joined net",
       {"--net", "host", "--join-net", "/proc/self/ns/net"},
       "exclude each other"},
      {"limits without a cgroup", {"--pids", "5", "--no-cgroup-leaf"}, "need a cgroup"},
      {"tmpfs without mounts", {"--no-mount", "--tmpfs", "/mnt"}, "need a mount namespace"},
      {"offset of the host's clock",
       {"--no-time", "--monotonic-offset", "5s"},
       "need a new time namespace"},
      {"offset that is no time", {"--boottime-offset=soon"}, "\"soon\" is not a duration"},
      {"offset of nothing", {"--boottime-offset=0"}, "longer than zero"},

      {"empty command", {"--", ""}, "no command was given"},
      {"no command", {"--"}, ""},
      {"unknown option", {"--frobnicate"}, "--frobnicate"},
      {"option without a value", {"--timeout"}, "--timeout"},
      {"option given twice", {"--timeout", "5s", "--timeout", "6s"}, "--timeout"},
  };
  for (const BadCase& test : cases) {
    SCOPED_TRACE(test.name);
    Words arguments = Words{"run"} + test.arguments;
    const bool complete = std::find(arguments.begin(), arguments.end(), "--") != arguments.end() ||
                          test.arguments.back() == "--timeout";
    if (!complete) arguments = arguments + Words{"--", "true"};
    ExpectRefused(arguments, test.sentence);
  }
}

TEST_F(BadInputTest, NoCommandOfBroodsOwn) {
  ExpectRefused({"frobnicate"}, "frobnicate");
  ExpectRefused({"run"}, "COMMAND");
}

TEST_F(BadInputTest, HugeArgumentsAndEnvironment) {
  const std::string big(131'000, 'a');
  ExpectRefused(Words{"run", "--", "true"} + Words(13, big), "arguments and environment together");
  Words variables = {"run"};
  for (int i = 0; i < 13; ++i) {
    variables.insert(variables.end(), {"-e", fmt::format("V{}={}", i, big.substr(0, 130'000))});
  }
  ExpectRefused(variables + Words{"--", "true"}, "arguments and environment together");
  Brood fits(Words{"run", "--", "true"} + Words(9, big));
  EXPECT_EQ(fits.Wait(), 0) << fits.err();
}

TEST_F(BadInputTest, LimitsThatTheHostCannotKeep) {
  const auto host = CgroupHost::Discover();
  ASSERT_TRUE(host.ok()) << host.status();
  struct Case {
    std::string_view controller;
    Words arguments;
  };
  const Case cases[] = {
      {"memory", {"--memory", "64M"}}, {"pids", {"--pids", "9"}}, {"cpu", {"--cpus", "0.5"}}};
  for (const Case& test : cases) {
    if (host->Has(test.controller)) continue;
    ExpectRefused(Words{"run"} + test.arguments + Words{"--", "true"}, "");
  }
}

// --- signals ------------------------------------------------------------------------------------

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
  Brood brood({"run", "--", python, "-c",
               "import signal\n"
               "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
               "print('up', flush=True)\n"
               "raise SystemExit(signal.sigwait([signal.SIGTERM]) - 11)\n"});
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
  EXPECT_THAT(brood.err(), HasSubstr("all of it was killed"));
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", pid));
  return {std::istream_iterator<pid_t>(file), {}};
}

bool Lives(pid_t pid) {
  const std::string stat = ReadText(fmt::format("/proc/{}/stat", pid));
  const std::size_t close = stat.rfind(')');
  return close != std::string::npos && close + 2 < stat.size() && stat[close + 2] != 'Z';
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

TEST_F(RunTest, ManyAtOnce) {
  constexpr int kCount = 12;
  std::vector<std::unique_ptr<Brood>> all;
  all.reserve(kCount);
  for (int i = 0; i < kCount; ++i) {
    all.push_back(std::make_unique<Brood>(
        Words{"run"} + Shell(fmt::format("cat /proc/self/uid_map; exit {}", i))));
  }
  std::vector<std::string> maps;
  for (int i = 0; i < kCount; ++i) {
    EXPECT_EQ(all[static_cast<std::size_t>(i)]->Wait(), i)
        << all[static_cast<std::size_t>(i)]->err();
    maps.push_back(all[static_cast<std::size_t>(i)]->out());
  }
  for (const std::string& map : maps) EXPECT_THAT(map, Not(HasSubstr(" 0          0")));
}

// --- the machine around it ----------------------------------------------------------------------

TEST_F(RunTest, RunsWhereMountsAreShared) {
  BROOD_NEEDS_ROOT();
  // systemd makes every mount of a machine shared.
  for (const Words& root : {Words{}, Words{"--rootfs", "/", "--root-mode", "ro"}}) {
    Brood brood(Words{"run"} + root + Words{"--", "true"}, [] {
      if (unshare(CLONE_NEWNS) != 0 ||
          mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0) {
        _exit(98);
      }
    });
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
  }
}

// --- a distribution -----------------------------------------------------------------------------

class DistributionTest : public RunTest {
 protected:
  void SetUp() override {
    const char* root = std::getenv("BROOD_TEST_ROOTFS");
    if (root == nullptr) GTEST_SKIP() << "missing: BROOD_TEST_ROOTFS, a distribution's root";
    root_ = root;
    RunTest::SetUp();
  }
  void TearDown() override {
    if (!root_.empty()) RunTest::TearDown();
  }

  void Require(const char* program) const {
    if (!fs::exists(root_ / "usr/bin" / program)) {
      GTEST_SKIP() << "missing: " << program << " in " << root_;
    }
  }

  std::string Output(std::string_view mode, const Words& command) const {
    Brood brood(Words{"run", "--rootfs", root_, "--root-mode", std::string(mode), "--"} + command);
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
    EXPECT_EQ(brood.err(), "");
    return brood.out();
  }

  fs::path root_;
};

TEST_F(DistributionTest, BashSeesASystemOfItsOwn) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  for (const char* mode : {"ro", "overlay"}) {
    EXPECT_EQ(Output(mode, {"bash", "-c",
                            "set -e; echo $UID $$ $HOSTNAME; stat -c %U:%G /etc/passwd;"
                            "seq 100000 | sort -rn | head -n 1000 | tail -n 1;"
                            "mkfifo /tmp/f; echo through > /tmp/f & cat /tmp/f;"
                            "cat <<< here; diff <(echo a) <(echo a); wait"}),
              "0 1 brood\nroot:root\n99001\nthrough\nhere\n");
  }
}

TEST_F(DistributionTest, OverlayTakesWrites) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  EXPECT_EQ(Output("overlay", {"bash", "-c",
                               "echo x > /etc/brood; mv /etc/passwd /etc/passwd.old;"
                               "cat /etc/brood"}),
            "x\n");
  EXPECT_FALSE(fs::exists(root_ / "etc/brood"));
  EXPECT_TRUE(fs::exists(root_ / "etc/passwd"));
}

TEST_F(DistributionTest, OverlayTakesRemovalOfDirectories) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  // An overlay notes in an attribute that a directory hides the root's, where root is not the
  // host's in a user.* one; it keeps them on a tmpfs.
  const UniqueFd file(memfd_create("attribute", MFD_CLOEXEC));
  if (fsetxattr(file.get(), "user.brood", "", 0, 0) != 0 && errno == EOPNOTSUPP) {
    GTEST_SKIP() << "missing: user.* attributes on tmpfs (Linux 6.6)";
  }
  EXPECT_EQ(Output("overlay",
                   {"bash", "-c", "rm -r /var/lib; mkdir /var/lib; ls -A /var/lib; echo gone"}),
            "gone\n");
  EXPECT_TRUE(fs::exists(root_ / "var/lib"));
}

TEST_F(DistributionTest, PsSeesOnlyItself) {
  if (Require("ps"); IsSkipped()) return;
  EXPECT_THAT(Output("ro", {"ps", "-e", "-o", "pid=,comm="}), ::testing::MatchesRegex(" *1 ps\n"));
}

TEST_F(DistributionTest, PythonRuns) {
  if (Require("python3"); IsSkipped()) return;
  EXPECT_EQ(Output("ro", {"python3", "-c",
                          "import os, socket, subprocess, tempfile, threading\n"
                          "s = socket.create_server(('127.0.0.1', 0))\n"
                          "c = socket.create_connection(s.getsockname())\n"
                          "t = threading.Thread(target=lambda: c.sendall(b'hello')); t.start()\n"
                          "print(s.accept()[0].recv(5).decode(), os.getpid())\n"
                          "t.join()\n"
                          "with tempfile.TemporaryFile() as f: f.write(b'x' * 1000000)\n"
                          "print(subprocess.run(['echo', 'sub'], capture_output=True).stdout)\n"
                          "child = os.fork()\n"
                          "if child == 0: os._exit(3)\n"
                          "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"}),
            "hello 1\nb'sub\\n'\n3\n");
}

TEST_F(DistributionTest, BusyboxPipelineRuns) {
  if (Require("busybox"); IsSkipped()) return;
  EXPECT_EQ(
      Output("ro", {"busybox", "sh", "-c",
                    "busybox seq 1 20000 | busybox grep 7 | busybox sort -n | busybox wc -l"}),
      "6878\n");
}

// User 0 without capabilities is told which it lacks, and not to be root.
TEST_F(RunTest, AdviceForRootIsNotToBecomeRoot) {
  BROOD_NEEDS_ROOT();
  const auto drop = [] {
    for (int capability = 0; capability < 64; ++capability) prctl(PR_CAPBSET_DROP, capability);
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    if (syscall(SYS_capset, &header, none) != 0) _exit(98);
  };
  struct Case {
    Words options;
    std::string_view lacks;
  };
  for (const Case& each : {Case{{}, "CAP_SETFCAP"}, Case{{"--no-user"}, "CAP_SYS_ADMIN"}}) {
    Brood brood(Words{"run"} + each.options + Words{"--", "true"}, drop);
    EXPECT_EQ(brood.Wait(), 125);
    EXPECT_THAT(brood.err(), HasSubstr(std::string(each.lacks)));
    EXPECT_THAT(brood.err(), Not(HasSubstr("as root")));
  }
}

}  // namespace
}  // namespace brood
