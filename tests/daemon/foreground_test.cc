// SPDX-License-Identifier: Apache-2.0

// A command in the foreground of a shell on a terminal, by run, submit and exec alike: what job
// control, an ending signal and a terminal that goes away do to it.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "spawn/host/process_tree.h"
#include "tests/daemon/daemon_fixture.h"
#include "tests/terminal.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ForegroundTest : public DaemonTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    if (IsSkipped()) return;
    if (std::string(GetParam()) == "run") return;
    ASSERT_NO_FATAL_FAILURE(StartDaemon());
    if (std::string(GetParam()) == "exec") host_ = Detached({}, "while :; do sleep 0.05; done");
  }
  void TearDown() override {
    if (!host_.empty()) {
      EXPECT_EQ(Run({"kill", host_}).status, 0);
    }
    DaemonTest::TearDown();
  }

  // The words that run `command` with this stdin, by the command that the test is about.
  Words By(const Words& options, const Words& command) const {
    const std::string how = GetParam();
    if (how == "run") return Words{"run"} + options + Words{"--"} + command;
    const Words start = With({how, "-i"}) + options;
    return how == "exec" ? start + Words{host_, "--"} + command : start + Words{"--"} + command;
  }
  // As a line for a shell.
  std::string Line(const Words& options, const Words& command) const {
    std::string line;
    for (const std::string& word : BroodWords(By(options, command))) line += "'" + word + "' ";
    return line;
  }
  static Words Interactive() { return {"/bin/bash", "--norc", "--noprofile", "-i"}; }
  // A shell with job control, which shows its prompt as "$ " and tells of jobs at once.
  static void Prepare(Terminal& shell) {
    shell.Type("PS1='$ '; set -b; bind 'set enable-bracketed-paste off'; echo re''ady\n");
    shell.Await("ready");
  }

  std::string host_;
};

TEST_P(ForegroundTest, WhatReadsTheTerminalInTheBackgroundIsStopped) {
  Terminal shell(Interactive());
  Prepare(shell);
  // The second line is in the terminal before the command is: it is the shell's all the same.
  shell.Type(Line({}, {"cat"}) + "&\necho for the sh''ell\n");
  shell.Await("for the shell");
  shell.Type("\n");
  shell.Await("Stopped +.*cat");
  shell.Type("fg\n");
  shell.Await("cat");
  shell.Type("for the command\n");
  shell.Await("for the command\r\nfor the command");
  shell.Type("\x04");
  shell.Type("echo st''atus=$?\n");
  shell.Await("status=0");
  shell.Type("exit\n");
  shell.Await("exit");
  EXPECT_EQ(shell.Wait(), 0);
}

TEST_P(ForegroundTest, WhatReadsNothingGoesOnInTheBackground) {
  Terminal shell(Interactive());
  Prepare(shell);
  shell.Type(Line({}, {"sh", "-c", "sleep 0.5; exit 7"}) + "&\nwait $!; echo st''atus=$?\n");
  EXPECT_THAT(shell.Await("status=[0-9]+"), Not(HasSubstr("Stopped")));
  shell.Type("exit 0\n");
  EXPECT_EQ(shell.Wait(), 0);
}

TEST_P(ForegroundTest, SuspendStopsTheCommandAndContinueContinuesIt) {
  Terminal shell(Interactive());
  Prepare(shell);
  // A background process of the command's: Ctrl-Z is for all of it.
  shell.Type(Line({}, {"sh", "-c", "while :; do sleep 0.02; echo ti''ck; done & cat"}) + "\n");
  shell.Await("tick");
  shell.Type("one\n");
  shell.Await("one\r\n(tick\r\n)*one");
  shell.Type("\x1a");
  shell.Await("Stopped");
  shell.Type("sleep 0.3; echo qu''iet\n");
  shell.Await("quiet");
  shell.Type("sleep 0.3; echo still qu''iet\n");
  EXPECT_THAT(shell.Await("still quiet"), Not(HasSubstr("tick")));
  // It was reading: in the background it must not.
  shell.Type("bg\n");
  shell.Await("Stopped");
  shell.Type("fg\n");
  shell.Await("tick");
  shell.Type("two\n");
  shell.Await("two\r\n(tick\r\n)*two");
  shell.Type("\x03");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // it reads the terminal until then
  shell.Type("\necho st''atus=$?\n");
  shell.Await("status=130");
  shell.Type("exit 0\n");
  EXPECT_EQ(shell.Wait(), 0);
}

TEST_P(ForegroundTest, EndsByWhatItDoesNotHandle) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1}) {
    SCOPED_TRACE(strsignal(number));
    Brood brood(By({}, {"tail", "-n", "+1", "-f", "/etc/passwd"}));
    brood.AwaitOutput("root:");
    brood.Kill(number);
    EXPECT_EQ(brood.Wait(), 128 + number) << brood.err();
  }
}

TEST_P(ForegroundTest, SecondSignalKillsWhatIgnoresTheFirst) {
  for (const auto& [first, second] : {std::pair{SIGINT, SIGTERM}, {SIGTERM, SIGINT}}) {
    Brood brood(By({}, {"sh", "-c", "trap '' INT TERM; echo up; while :; do sleep 0.02; done"}));
    brood.AwaitOutput("up");
    brood.Kill(first);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_FALSE(brood.Ended());
    brood.Kill(second);
    EXPECT_EQ(brood.Wait(), 137) << brood.err();
  }
}

TEST_P(ForegroundTest, SameSignalTwiceAtOnceIsOne) {
  // As timeout(1) sends it: to the process, and to its group.
  Brood brood(By({}, {"sh", "-c",
                      "trap 'sleep 0.3; exit 3' TERM; echo up; while :; do sleep 0.02; "
                      "done"}));
  brood.AwaitOutput("up");
  brood.Kill(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  brood.Kill(SIGTERM);
  EXPECT_EQ(brood.Wait(), 3) << brood.err();
}

TEST_P(ForegroundTest, CommandEndsWithItsTerminal) {
  // bash ends when it is hung up; what ignores that is killed.
  const Words hears = {"bash", "-c", "echo up; exec bash --norc"};
  const Words is_deaf = {"sh", "-c", "trap '' HUP; echo up; while :; do sleep 0.05; done"};
  for (const Words& command : {hears, is_deaf}) {
    for (const char* caller : {"exec \"$@\"", "trap '' HUP; exec \"$@\""}) {
      SCOPED_TRACE(command.back() + " by " + caller);
      Terminal terminal(Words{"/bin/sh", "-c", caller, "sh"} + BroodWords(By({"-t"}, command)));
      terminal.Await("up");
      terminal.HangUp();
      terminal.Wait();  // there is an alarm for one that does not end
    }
  }
}

INSTANTIATE_TEST_SUITE_P(By, ForegroundTest, ::testing::Values("run", "submit", "exec"),
                         [](const auto& by) { return std::string(by.param); });

}  // namespace
}  // namespace brood
