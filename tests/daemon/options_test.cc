// SPDX-License-Identifier: Apache-2.0

// Every option of the commands that speak to the daemon: none is accepted and ignored.
#include "tests/options.h"

#include <fmt/format.h>

#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class DaemonOptionsTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_NO_FATAL_FAILURE(StartDaemon());
  }
  // `words` stand before the command; `{ID}` in them is an isolate that runs.
  void Expect(const std::string& command, const std::vector<OptionCase>& cases,
              const Words& before_script = {}) const {
    for (const OptionCase& each : cases) {
      SCOPED_TRACE(fmt::format("{} {}", command, fmt::join(each.words, " ")));
      Words words = Words{command} + each.words;
      if (!each.script.empty()) words = words + before_script + Shell(each.script);
      const bool socket = each.option == "--socket";
      Brood brood(socket ? words : With(words));
      EXPECT_EQ(brood.Wait(), each.status) << brood.out() << brood.err();
      EXPECT_THAT(brood.out() + brood.err(), HasSubstr(each.seen));
    }
  }
  static OptionCase Socket(const Words& rest = {}) {
    return {"--socket", Words{"--socket", "/none"} + rest, "", 125, "no daemon listens on /none"};
  }
};

std::vector<OptionCase> OfAnyCommand() {
  return {{"--env", {"-e", "A=b"}, "echo [$A]", 0, "[b]"},
          {"--clear-env", {"--clear-env"}, "echo [$HOME]", 0, "[]"},
          {"--workdir", {"-w", "/tmp"}, "pwd", 0, "/tmp\n"},
          {"--timeout", {"--timeout", "50ms"}, "sleep 1000", 124, ""},
          {"--tty", {"-t"}, "true", 125, "not a terminal"},
          {"--interactive", {"-i"}, "readlink /proc/self/fd/0", 0, "/dev/null"}};
}

TEST_F(DaemonOptionsTest, OfSubmit) {
  std::vector<OptionCase> cases = OfAnyCommand();
  cases.insert(cases.end(),
               {Socket({"--", "true"}),
                {"--detach", {"-d", "-i"}, "true", 125, "leave out -i"},
                {"--name", {"--name", "/"}, "true", 125, "is not a name"},
                {"--template", {"--template", "none"}, "true", 125, "no template \"none\""},
                {"--wait", {"--wait", "0"}, "true", 125, "longer than zero"},
                {"--init",
                 {"--init"},
                 "until grep -q init /proc/1/comm; do sleep 0.01; done; cat /proc/1/comm",
                 0,
                 "brood-init"},
                {"--fresh", {"--fresh"}, "echo ran", 0, "ran"},
                {"--memory", {"--memory", "x"}, "true", 125, "is not a size"},
                {"--memory-high", {"--memory-high", "x"}, "true", 125, "is not a size"},
                {"--memory-swap", {"--memory-swap", "64M"}, "true", 125, "needs --memory"},
                {"--pids", {"--pids", "x"}, "true", 125, "--pids must be"},
                {"--cpus", {"--cpus", "x"}, "true", 125, "is not a number of cpus"},
                {"--cpu-period", {"--cpu-period", "20ms"}, "true", 125, "cpu"},
                {"--cpu-weight", {"--cpu-weight", "x"}, "true", 125, "--cpu-weight must be"},
                {"--cpuset-cpus", {"--cpuset-cpus", "x"}, "true", 125, "cpuset"},
                {"--cpuset-mems", {"--cpuset-mems", "x"}, "true", 125, "cpuset"},
                {"--io-max", {"--io-max", "/none:rbps=1M"}, "true", 125, "/none"},
                {"--io-weight", {"--io-weight", "x"}, "true", 125, "--io-weight must be"}});
  ExpectComplete("submit", cases);
  Expect("submit", cases);
}

TEST_F(DaemonOptionsTest, OfExec) {
  const std::string id = Detached({}, "while :; do sleep 0.05; done");
  std::vector<OptionCase> cases = OfAnyCommand();
  cases.push_back(Socket({id, "true"}));
  ExpectComplete("exec", cases);
  Expect("exec", cases, {id});
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

TEST_F(DaemonOptionsTest, OfOthers) {
  const std::string id =
      Detached({"--name", "runs"}, "trap 'exit 5' TERM; while :; do sleep 0.05; done");
  EXPECT_EQ(Run({"submit", "--name", "ended", "--", "true"}).status, 0);
  const std::string logged = Detached({}, "sleep 0.3; echo late");
  const std::vector<std::pair<std::string, std::vector<OptionCase>>> commands = {
      {"ps",
       {Socket(), {"--all", {"-a"}, "", 0, "ended"}, {"--json", {"--json"}, "", 0, "\"id\""}}},
      {"tree",
       {Socket(),
        {"--all", {"-a"}, "", 0, "[parked]"},
        {"--json", {"--json"}, "", 0, "\"children\""}}},
      {"top",
       {Socket(),
        {"--rounds", {"-n", "1"}, "", 0, "runs"},
        {"--interval", {"--interval", "x", "-n", "1"}, "", 125, "is not a duration"}}},
      {"stats", {Socket(), {"--json", {"--json"}, "", 0, "\"parked\""}}},
      {"inspect", {Socket({id})}},
      {"logs",
       {Socket({id}),
        {"--follow", {"-f", logged}, "", 0, "late"},
        {"--function", {"--function", "nobody"}, "", 125, "no function \"nobody\""},
        {"--functions", {"--functions", id}, "", 125, "not of both"}}},
      {"kill", {Socket({id}), {"--signal", {"-s", "NONE", id}, "", 125, "no signal NONE"}}},
      {"wait", {Socket({id})}},
      {"stop", {Socket({id}), {"--time", {"-t", "x", id}, "", 125, "is not a duration"}}}};
  for (const auto& [command, cases] : commands) {
    ExpectComplete(command, cases);
    Expect(command, cases);
  }
  for (const char* const command : {"ps", "tree", "top", "stats"}) {
    EXPECT_THAT(Run({command, "word"}).err, HasSubstr("takes options only"));
  }
  EXPECT_EQ(Run({"stop", id}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 5);
}

}  // namespace
}  // namespace brood
