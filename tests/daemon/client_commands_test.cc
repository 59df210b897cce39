// SPDX-License-Identifier: Apache-2.0

// The commands beside the daemon, as their users meet them.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST_F(DaemonTest, SubmitExitsAsTheCommandDid) {
  StartDaemon();
  struct Case {
    Words command;
    int status;
    std::string_view error;
  };
  const std::vector<Case> cases = {
      {{"--", "true"}, 0, ""},
      {Shell("exit 7"), 7, ""},
      {Shell("kill -SEGV $$; sleep 1"), 0, ""},  // an init without a handler
      {Shell("sh -c 'kill -SEGV $$'"), 139, ""},
      {{"--", "no-such-program"}, 127, "no such file inside the root"},
      {{"--", "/etc/passwd"}, 126, "EACCES"},
      {{"--timeout", "100ms", "--", "sleep", "60"}, 124, ""},
      {{"-w", "/no/such", "--", "true"}, 125, "ENOENT"},
      {{"--template", "none", "--", "true"}, 125, "there is no template \"none\""},
      {{}, 125, "no command was given"},
  };
  for (const Case& each : cases) {
    const Result result = Run(Words{"submit"} + each.command);
    EXPECT_EQ(result.status, each.status) << ::testing::PrintToString(each.command) << result.err;
    EXPECT_THAT(result.err, HasSubstr(std::string(each.error)));
  }
}

TEST_F(DaemonTest, OutputGoesStraightToTheClient) {
  StartDaemon();
  const Result result = Run(Words{"submit"} + Shell("echo out; echo err >&2; cat"));
  EXPECT_EQ(result.out, "out\n") << "without -i there is no stdin";
  EXPECT_EQ(result.err, "err\n");
  const std::filesystem::path input = directory_ / "input";
  std::ofstream(input) << "typed\n";
  Brood with_input(With({"submit", "-i", "--", "cat"}),
                   [&] { dup2(open(input.c_str(), O_RDONLY), 0); });
  EXPECT_EQ(with_input.Wait(), 0);
  EXPECT_EQ(with_input.out(), "typed\n");
}

TEST_F(DaemonTest, EnvironmentAndDirectoryAreTheClients) {
  StartDaemon();
  EXPECT_EQ(Out(Words{"submit", "-e", "WHO=me", "-w", "/usr"} + Shell("echo $WHO; pwd")),
            "me\n/usr\n");
}

TEST_F(DaemonTest, SocketIsForItsOwnerAlone) {
  StartDaemon();
  struct stat status = {};
  ASSERT_EQ(lstat(socket_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(DaemonTest, LogsOfADetachedOneAreKept) {
  StartDaemon();
  const std::string id = Detached({}, "echo one; echo two >&2; sleep 0.2; echo three");
  ASSERT_THAT(id, MatchesRegex("[0-9a-f]{12}"));
  const Result followed = Run({"logs", "-f", id});
  EXPECT_EQ(followed.status, 0);
  EXPECT_EQ(followed.out, "one\nthree\n");
  EXPECT_EQ(followed.err, "two\n");
  EXPECT_EQ(Run({"wait", id}).status, 0);
  EXPECT_EQ(Out({"logs", id}), "one\nthree\n") << "after its end, too";
}

TEST_F(DaemonTest, LogsSayWhatIsLost) {
  StartDaemon();
  // A megabyte and a bit, of which 256 KiB are kept.
  const std::string id = Detached({}, "yes 0123456789abcde | head -c 1100000; echo end");
  EXPECT_EQ(Run({"wait", id}).status, 0);
  const Result logs = Run({"logs", id});
  EXPECT_EQ(logs.out.size(), 256U << 10);
  EXPECT_THAT(logs.out, ::testing::EndsWith("end\n"));
  EXPECT_THAT(logs.err, HasSubstr(std::to_string(1100004 - (256 << 10)) + " bytes of output"));
}

TEST_F(DaemonTest, ForegroundLogsAreNotKept) {
  StartDaemon();
  Brood submit(
      With(Words{"submit", "--name", "front"} + Shell("trap '' TERM INT; echo up; sleep 60")));
  submit.AwaitOutput("up");
  const Result logs = Run({"logs", "front"});
  EXPECT_EQ(logs.status, 125);
  EXPECT_THAT(logs.err, HasSubstr("went straight to its client"));
  submit.Kill(SIGTERM);
  submit.Kill(SIGINT);  // the second that asks for its end kills it
  EXPECT_EQ(submit.Wait(), 137);
}

TEST_F(DaemonTest, ExecEntersTheSameNamespaces) {
  StartDaemon();
  // Which may not have come to its command yet: exec waits for that.
  const std::string id = Detached({"--name", "home"}, "sleep 1000");
  const nlohmann::json before = Inspect(id);
  const std::string outside = before["fences"]["namespaces"].dump();
  // What the command sees of itself is what the kernel shows of the isolate's init from outside.
  const std::string inside =
      Out(Words{"exec", "home"} + Shell("for n in mnt pid net ipc uts user cgroup time; do "
                                        "readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done"));
  std::istringstream lines(inside);
  std::string own;
  std::string init;
  int count = 0;
  while (std::getline(lines, own) && std::getline(lines, init)) {
    EXPECT_EQ(own, init);
    const std::string inode = own.substr(own.find('[') + 1, own.find(']') - own.find('[') - 1);
    EXPECT_THAT(outside, HasSubstr(inode));
    ++count;
  }
  EXPECT_EQ(count, 8);
  EXPECT_EQ(Out({"exec", "home", "--", "id", "-u"}), "0\n");
  EXPECT_THAT(Out({"exec", "home", "grep", "CapEff\\|Seccomp:\\|NoNewPrivs", "/proc/self/status"}),
              MatchesRegex("CapEff:\t0+\nNoNewPrivs:\t1\nSeccomp:\t2\n"));
  // It is born in the isolate's cgroup.
  Brood sleeper(With(Words{"exec", "home"} + Shell("echo in; exec sleep 999")));
  sleeper.AwaitOutput("in");
  const nlohmann::json tree = nlohmann::json::parse(Out({"tree", "--json"}));
  std::string entered;
  for (const auto& child : tree["children"]) {
    if (child["role"] == "exec") entered = child["pid"].dump();
  }
  EXPECT_THAT(ReadText(before["cgroup"].get<std::string>() + "/cgroup.procs"),
              HasSubstr(entered + "\n"));
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_EQ(sleeper.Wait(), 137) << "it ends with the isolate";
  EXPECT_EQ(Run({"wait", id}).status, 137);  // the kernel kills them in no order
  const Result late = Run({"exec", id, "true"});
  EXPECT_EQ(late.status, 125);
  EXPECT_THAT(late.err, HasSubstr("has ended"));
}

TEST_F(DaemonTest, StopAsksFirst) {
  StartDaemon();
  const std::string polite =
      Detached({}, "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done");
  ASSERT_TRUE(ComesTrue([&] { return Out({"logs", polite}) == "up\n"; }));
  EXPECT_EQ(Run({"stop", polite}).status, 0);
  EXPECT_EQ(Run({"wait", polite}).status, 3);
  EXPECT_EQ(Out({"logs", polite}), "up\nbye\n");
  const std::string deaf = Detached({}, "trap '' TERM; echo up; sleep 1000");
  ASSERT_TRUE(ComesTrue([&] { return Out({"logs", deaf}) == "up\n"; }));
  EXPECT_EQ(Run({"stop", "-t", "100ms", deaf}).status, 0);
  EXPECT_EQ(Run({"wait", deaf}).status, 137);
  EXPECT_EQ(Inspect(deaf)["end"], "killed");
}

TEST_F(DaemonTest, StopEndsWhatDoesNotHandleItAtOnce) {
  StartDaemon();
  const std::string id = Detached({}, "exec sleep 1000");
  ASSERT_TRUE(ComesTrue([&] { return Inspect(id)["state"] == "running"; }));
  EXPECT_EQ(Run({"stop", "-t", "1h", id}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 143);
  EXPECT_EQ(Inspect(id)["end"], "signalled");
}

TEST_F(DaemonTest, TimeoutOfExecEndsAllThatItHasStarted) {
  StartDaemon();
  const std::string id = Detached({}, "while :; do sleep 0.05; done");
  const Result result =
      Run({"exec", "--timeout", "300ms", id, "--", "/bin/sh", "-c", "sleep 7654 & sleep 7653"});
  EXPECT_EQ(result.status, 124);
  EXPECT_TRUE(ComesTrue([&] {
    return Run({"exec", id, "--", "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline"}).out.find("765") ==
           std::string::npos;
  }));
  EXPECT_EQ(Inspect(id)["state"], "running");
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

TEST_F(DaemonTest, KillSendsWhatItIsTold) {
  StartDaemon();
  const std::string id =
      Detached({}, "trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done");
  ASSERT_TRUE(ComesTrue([&] { return Out({"logs", id}) == "up\n"; }));
  EXPECT_EQ(Run({"kill", "-s", "usr1", id}).status, 0);
  EXPECT_TRUE(ComesTrue([&] { return Out({"logs", id}) == "up\nusr1\n"; }));
  const Result unknown = Run({"kill", "-s", "NONE", id});
  EXPECT_EQ(unknown.status, 125);
  EXPECT_THAT(unknown.err, HasSubstr("there is no signal NONE"));
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 137);
}

TEST_F(DaemonTest, NamesAndBeginningsOfIds) {
  StartDaemon();
  const std::string id = Detached({"--name", "only"}, "sleep 1000");
  EXPECT_EQ(Inspect(id.substr(0, 6))["name"], "only");
  EXPECT_EQ(Inspect("only")["id"], id);
  const Result taken = Run(Words{"submit", "-d", "--name", "only"} + Shell("true"));
  EXPECT_EQ(taken.status, 125);
  EXPECT_THAT(taken.err, HasSubstr("the name only is taken by " + id));
  const Result bad = Run(Words{"submit", "-d", "--name", "a b"} + Shell("true"));
  EXPECT_THAT(bad.err, HasSubstr("\"a b\" is not a name"));
  const Result unknown = Run({"inspect", "nobody"});
  EXPECT_EQ(unknown.status, 125);
  EXPECT_THAT(unknown.err, HasSubstr("there is no isolate \"nobody\""));
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 137);
  EXPECT_EQ(Run(Words{"submit", "-d", "--name", "only"} + Shell("true")).status, 0)
      << "free again once it has ended";
}

TEST_F(DaemonTest, ListsWhatRunsAndWhatHasEnded) {
  StartDaemon();
  const std::string id = Detached({"--name", "lister"}, "sleep 1000");
  EXPECT_EQ(Run(Words{"submit"} + Shell("exit 4")).status, 4);
  EXPECT_THAT(Out({"ps"}), HasSubstr(id));
  EXPECT_THAT(Out({"ps"}), Not(HasSubstr("exit 4")));
  EXPECT_THAT(Out({"ps", "-a"}), HasSubstr("ended (4)"));
  const auto json = nlohmann::json::parse(Out({"ps", "-a", "--json"}));
  ASSERT_EQ(json.size(), 2U);
  EXPECT_EQ(json[0]["state"], "running");
  EXPECT_EQ(json[1]["exit_status"], 4);
  EXPECT_EQ(json[1]["command"], nlohmann::json({"/bin/sh", "-c", "exit 4"}));
  EXPECT_THAT(Out({"top", "-n", "2", "--interval", "50ms"}), HasSubstr("lister"));
  Run({"kill", id});
}

TEST_F(DaemonTest, StatsAddUp) {
  StartDaemon({"--pool", "4"});
  for (int i = 0; i < 30; ++i) EXPECT_EQ(Run({"submit", "--", "true"}).status, 0);
  Client client = Connected();
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(client.Start(SubmitOf({"true"}), {}).ok());
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(client.Next().ok());
  const nlohmann::json stats = Stats();
  EXPECT_EQ(stats["served"], 90);
  EXPECT_EQ(stats["hits"].get<int>() + stats["misses"]["none_parked"].get<int>() +
                stats["misses"]["own_limits_or_exec"].get<int>(),
            90);
  EXPECT_TRUE(ComesTrue([&] { return Stats()["parked"] == 4; })) << "it refills";
}

TEST_F(DaemonTest, NoDaemonIsToldWithHowToStartOne) {
  const Result result = Run({"ps"});
  EXPECT_EQ(result.status, 125);
  EXPECT_THAT(result.err, HasSubstr("no daemon listens on " + socket_));
  EXPECT_THAT(result.err, HasSubstr("brood serve"));
}

TEST_F(DaemonTest, LimitsThatCannotBeHadAreToldByController) {
  StartDaemon();
  const Result result = Run(Words{"submit", "--memory", "64M"} + Shell("true"));
  if (result.status == 0) GTEST_SKIP() << "this machine has the memory controller";
  EXPECT_EQ(result.status, 125);
  EXPECT_THAT(result.err, HasSubstr("memory"));
}

TEST_F(DaemonTest, LongCommandsAreCutInLists) {
  StartDaemon();
  const std::string word(100'000, 'x');
  const std::string id =
      Out(Words{"submit", "-d"} + Shell("sleep 1000") + Words{word, word}).substr(0, 12);
  const auto listed = nlohmann::json::parse(Out({"ps", "--json"}));
  EXPECT_LT(listed.dump().size(), 2000U);
  EXPECT_EQ(listed[0]["command"].back(), "...");
  EXPECT_LT(Out({"ps"}).size(), 2000U);
  const nlohmann::json whole = Inspect(id);
  EXPECT_GT(whole["command"].dump().size(), 60'000U) << "more for who asks for it";
  EXPECT_LT(whole["command"].dump().size(), 70'000U);
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

TEST_F(DaemonTest, LongCommandsThatRunLeaveRoomForOthers) {
  StartDaemon({"--pool", "12"});
  // There are eight areas for what does not fit in a worker's own page; exec frees them.
  std::vector<std::string> ids(12);
  for (std::string& id : ids) {
    id = Detached({"-e", "LONG=" + std::string(10'000, 'x')}, "sleep 1000");
  }
  for (const std::string& id : ids) {
    EXPECT_EQ(Inspect(id)["state"], "running");
    EXPECT_EQ(Run({"kill", id}).status, 0);
  }
}

// What runs bare can write where an isolate cannot.
TEST_F(DaemonTest, ABurstsFloorRunsAsOftenAsTheBurst) {
  StartDaemon();
  const std::string ran = "/var/tmp/brood_burst_floor_" + std::to_string(getpid());
  Out(Words{"burst", "-n", "10", "-c", "5"} +
      Words{"--", "/bin/sh", "-c", "{ echo x >>" + ran + "; } 2>/dev/null; true"});
  const std::string lines = ReadText(ran);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 10);
  std::filesystem::remove(ran);
}

TEST_F(DaemonTest, DetachedOneThatCannotBeHadIsTold) {
  StartDaemon();
  const Result result = Run(Words{"submit", "-d", "-w", "/no/such", "--pids", "5"} + Shell("true"));
  EXPECT_EQ(result.out.empty(), result.status != 0);
  EXPECT_THAT(result.err, Not(HasSubstr("message of type")));
}

// However many commands in the foreground come and go.
TEST_F(DaemonTest, WhatWasDetachedIsKeptUntilSomebodyHasWaitedForIt) {
  StartDaemon({"--pool", "8"});
  const std::string id = Detached({"--name", "job"}, "echo result; exit 7");
  ASSERT_TRUE(ComesTrue([&] { return Inspect(id)["state"] == "ended"; }));
  Client client = Connected();
  const auto run_many = [&] {
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    for (int i = 0; i < 260; ++i) {
      const auto ended = client.Run(SubmitOf({"/bin/true"}), {null.get(), null.get(), null.get()});
      ASSERT_TRUE(ended.ok()) << ended.status();
    }
  };
  run_many();
  EXPECT_EQ(Out({"logs", "job"}), "result\n");
  EXPECT_EQ(Run({"wait", id}).status, 7);
  run_many();
  const Result gone = Run({"wait", id});
  EXPECT_EQ(gone.status, 125);
  EXPECT_THAT(gone.err, HasSubstr("has ended and was forgotten"));
  EXPECT_THAT(Run({"wait", "nosuch"}).err, HasSubstr("there is no isolate"));
}

TEST_F(DaemonTest, HowManyDetachedOnesAreKeptCanBeSet) {
  StartDaemon({"--pool", "2", "--max-unclaimed", "1"});
  const std::string first = Detached({}, "exit 1");
  ASSERT_TRUE(ComesTrue([&] { return Inspect(first)["state"] == "ended"; }));
  const std::string second = Detached({}, "exit 2");
  ASSERT_TRUE(ComesTrue([&] { return Inspect(second)["state"] == "ended"; }));
  EXPECT_THAT(Run({"wait", first}).err, HasSubstr("--max-unclaimed"));
  EXPECT_EQ(Run({"wait", second}).status, 2);
}

}  // namespace
}  // namespace brood
