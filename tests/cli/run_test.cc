// SPDX-License-Identifier: Apache-2.0

// brood run from outside: statuses, input and output, reports.
#include "tests/cli/run_test.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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
      {"timeout", {"--timeout", "100ms", "--", "sleep", "1000"}, 124, "ran out of time"},
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
