// SPDX-License-Identifier: Apache-2.0

// run --init: zombies, signals and exit statuses below an init of brood's.
#include "tests/init.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class InitTest : public LeavesNothing {
 protected:
  static int Status(const Words& arguments) {
    Brood brood(Words{"run", "--init"} + arguments);
    return brood.Wait();
  }
  // What a script writes.
  static std::string Out(const Words& options, const std::string& script) {
    Brood brood(Words{"run", "--init"} + options + Shell(script));
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
    return brood.out();
  }
};

TEST_F(InitTest, StatusIsTheCommands) {
  EXPECT_EQ(Status({"--", "true"}), 0);
  EXPECT_EQ(Status(Shell("exit 7")), 7);
  EXPECT_EQ(Status(Shell("kill -KILL $$")), 137);
  EXPECT_EQ(Status(Shell("kill -TERM $$")), 143);
  EXPECT_EQ(Status({"--timeout", "100ms", "--", "sleep", "1000"}), 124);
}

TEST_F(InitTest, WhatCannotBeExecutedIsToldAsWithoutIt) {
  EXPECT_EQ(Status({"--", "/no/such/program"}), 127);
  EXPECT_EQ(Status({"--", "/etc/passwd"}), 126);
  Brood brood({"run", "--init", "--json", "--", "/etc/passwd"});
  EXPECT_EQ(brood.Wait(), 126);
  EXPECT_THAT(brood.err(), HasSubstr("EACCES"));
  EXPECT_THAT(brood.err(), HasSubstr("\"step\": \"exec\""));
}

TEST_F(InitTest, ReapsWhatLosesItsParent) {
  const std::string script =
      "i=0; while [ $i -lt 200 ]; do (sleep 0 &); i=$((i+1)); done; sleep 0.5; "
      "cat /proc/[0-9]*/stat | grep -c ') Z ' || true; cat /proc/1/comm";
  EXPECT_EQ(Out({}, script), "0\nbrood-init\n");
}

TEST_F(InitTest, PassesSignalsOn) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
    SCOPED_TRACE(strsignal(number));
    Brood handles(
        Words{"run", "--init"} +
        Shell(fmt::format("trap 'exit 9' {}; echo ready; while :; do sleep 0.01; done", number)));
    handles.AwaitOutput("ready");
    handles.Kill(number);
    EXPECT_EQ(handles.Wait(), 9) << handles.err();
    Brood ends(Words{"run", "--init"} + Shell("echo ready; exec sleep 1000"));
    ends.AwaitOutput("ready");
    ends.Kill(number);
    EXPECT_EQ(ends.Wait(), 128 + number) << ends.err();
  }
}

TEST_F(InitTest, WhatIsIgnoredFromTheStartEndsNobody) {
  // As nohup(1) has it; without an init as with one.
  for (const Words& options : {Words{}, Words{"--init"}}) {
    Brood brood(Words{"run"} + options + Words{"--", "tail", "-n", "+1", "-f", "/etc/passwd"},
                [] { signal(SIGHUP, SIG_IGN); });
    brood.AwaitOutput("root:");
    brood.Kill(SIGHUP);
    brood.Kill(SIGHUP);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_FALSE(brood.Ended());
    brood.Kill(SIGTERM);
    EXPECT_EQ(brood.Wait(), 143) << brood.err();
  }
}

TEST_F(InitTest, EndsAllWithTheCommand) {
  // A daemon with a session of its own; the test's end looks for what is left.
  EXPECT_EQ(Out({}, "setsid sleep 1000 & echo done"), "done\n");
}

TEST_F(InitTest, HoldsNothingOpen) {
  // Whoever reads the command's output would wait for the init, too.
  EXPECT_EQ(Out({}, "ls /proc/1/fd | wc -l"), "0\n");
}

TEST_F(InitTest, GoesWithAllThatCanBeHad) {
  const std::string script =
      std::string(kNameOfInit) + "; grep Seccomp: /proc/1/status; echo $PPID";
  for (const Words& options :
       {Words{}, Words{"--seccomp", "off"}, Words{"--no-time"}, Words{"--nesting"},
        Words{"--cap-add", "NET_ADMIN"}, Words{"-u", "1000:1000"}, Words{"--no-cgroup-leaf"},
        Words{"--monotonic-offset", "5s"}, Words{"--no-user"}}) {
    SCOPED_TRACE(options.empty() ? "" : options.front());
    // Only root makes namespaces without one of users.
    if (options == Words{"--no-user"} && geteuid() != 0) continue;
    const std::string filter = options == Words{"--seccomp", "off"} ? "0" : "2";
    EXPECT_EQ(Out(options, script), "brood-init\nSeccomp:\t" + filter + "\n1\n");
  }
}

TEST_F(InitTest, GoesWithARootOfItsOwn) {
  const char* const root = std::getenv("BROOD_TEST_ROOTFS");
  if (root == nullptr) GTEST_SKIP() << "missing: BROOD_TEST_ROOTFS, a distribution's root";
  EXPECT_EQ(Out({"--rootfs", root}, kNameOfInit), "brood-init\n");
}

TEST_F(InitTest, IsRefusedWhereItCannotBe) {
  for (const Words& options : {Words{"--no-pid"}, Words{"--join-pid", "/proc/self/ns/pid"}}) {
    Brood brood(Words{"run", "--init"} + options + Words{"--", "true"});
    EXPECT_EQ(brood.Wait(), 125);
    EXPECT_THAT(brood.err(), HasSubstr("new pid namespace"));
  }
  const std::filesystem::path profile =
      std::filesystem::path(::testing::TempDir()) / fmt::format("brood_profile_{}", getpid());
  std::ofstream(profile) << R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["wait4"], "action": "SCMP_ACT_ERRNO"}]})";
  Brood brood({"run", "--init", "--seccomp", profile.string(), "--", "true"});
  EXPECT_EQ(brood.Wait(), 125);
  EXPECT_THAT(brood.err(), HasSubstr("refuses wait4, which an init needs"));
  std::filesystem::remove(profile);
}

}  // namespace
}  // namespace brood
