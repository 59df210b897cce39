// SPDX-License-Identifier: Apache-2.0

// The daemon's own life: many clients, reload, drain, death.
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "spawn/host/cgroup_host.h"
#include "tests/daemon/daemon_fixture.h"
#include "tests/needs.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

TEST_F(DaemonTest, ManyClientsAtOnce) { ManyClients(64, 12); }

TEST_F(DaemonTest, DrainLetsCommandsEnd) {
  StartDaemon();
  Brood running(With(Words{"submit"} + Shell("echo up; sleep 0.7; exit 8")));
  running.AwaitOutput("up");
  daemon_->Kill(SIGTERM);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("draining") != std::string::npos; }));
  EXPECT_EQ(Run({"submit", "--", "true"}).status, 125) << "nobody new";
  EXPECT_EQ(running.Wait(), 8);
  EXPECT_EQ(daemon_->Wait(), 0);
  daemon_.reset();
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

TEST_F(DaemonTest, SecondSignalEndsAllAtOnce) {
  StartDaemon();
  Brood running(With(Words{"submit"} + Shell("echo up; sleep 1000")));
  running.AwaitOutput("up");
  daemon_->Kill(SIGTERM);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("draining") != std::string::npos; }));
  daemon_->Kill(SIGTERM);
  EXPECT_EQ(running.Wait(), 137);
  EXPECT_EQ(daemon_->Wait(), 0);
  daemon_.reset();
}

TEST_F(DaemonTest, KilledIsolatesLeaveNoBadPlaceBehind) {
  StartDaemon({"--pool", "2"});
  for (int i = 0; i < 6; ++i) {
    const std::string id = Detached({}, "sleep 1000");
    EXPECT_EQ(Run({"kill", id}).status, 0);
    EXPECT_EQ(Run({"wait", id}).status, 137);
    ExpectServes();
  }
  EXPECT_TRUE(ComesTrue([&] { return Stats()["parked"] == 2; })) << "it refills";
}

TEST_F(DaemonTest, ReloadReplacesTemplatesUnderRunningWorkers) {
  const std::filesystem::path config = directory_ / "brood.toml";
  std::ofstream(config) << "[template.a]\nhostname = \"first\"\nparked = 2\n"
                        << "[template.gone]\nparked = 1\n";
  StartDaemon({"--config", config.string()});
  EXPECT_EQ(Out({"submit", "--", "hostname"}), "first\n");
  EXPECT_EQ(Run({"submit", "--template", "gone", "--", "true"}).status, 0);
  const std::string id = Detached({}, "sleep 1000");
  std::ofstream(config) << "[template.a]\nhostname = \"second\"\nparked = 2\n";
  daemon_->Kill(SIGHUP);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("\"reloaded\"") != std::string::npos; })) << Log();
  EXPECT_EQ(Out({"submit", "--", "hostname"}), "second\n");
  EXPECT_THAT(Run({"submit", "--template", "gone", "--", "true"}).err, HasSubstr("no template"));
  EXPECT_EQ(Inspect(id)["state"], "running");
  EXPECT_EQ(Out({"exec", id, "hostname"}), "first\n") << "it stays in its own namespaces";
  EXPECT_EQ(Run({"kill", id}).status, 0);
  // What is wrong changes nothing, and is told with its line.
  std::ofstream(config) << "[template.a]\nhostnam = \"third\"\n";
  daemon_->Kill(SIGHUP);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("not reloaded") != std::string::npos; }));
  EXPECT_THAT(Log(), HasSubstr("line 2"));
  EXPECT_EQ(Out({"submit", "--", "hostname"}), "second\n");
}

TEST_F(DaemonTest, KilledDaemonTakesAllWithItAndTheNextCleansUp) {
  BROOD_NEEDS_ROOT();
  StartDaemon({"--pool", "6"});
  const std::string id = Detached({}, "trap '' TERM; setsid sleep 999 & sleep 1000");
  const nlohmann::json isolate = Inspect(id);
  const int pid = isolate["host_pid"];
  const std::string leaf = isolate["cgroup"];
  ASSERT_TRUE(std::filesystem::exists(leaf));
  daemon_->Kill(SIGKILL);
  daemon_->Wait();
  daemon_.reset();
  // A second, and something for a busy machine.
  EXPECT_TRUE(ComesTrue([&] { return ReadText(leaf + "/cgroup.procs").empty(); }));
  EXPECT_TRUE(ComesTrue([&] { return kill(pid, 0) != 0; }));
  StartDaemon({"--pool", "2"});
  EXPECT_FALSE(std::filesystem::exists(leaf)) << "the next start has removed it";
  EXPECT_THAT(Log(), HasSubstr("\"cleaned\""));
  EXPECT_EQ(Run({"submit", "--", "true"}).status, 0);
}

// As io_uring keeps that of a killed one open for a moment.
TEST_F(DaemonTest, SocketThatOutlivesItsDaemonIsReplaced) {
  const UniqueFd kept(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(kept.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const pid_t dead = fork();
  if (dead == 0) _exit(listen(kept.get(), 1));
  int status = 0;
  ASSERT_EQ(waitpid(dead, &status, 0), dead);
  ASSERT_EQ(status, 0);
  StartDaemon();
  EXPECT_EQ(Run({"submit", "--", "true"}).status, 0);
}

TEST_F(DaemonTest, SecondDaemonOnOneSocketIsRefused) {
  StartDaemon();
  Brood second(With({"serve"}));
  EXPECT_EQ(second.Wait(), 125);
  EXPECT_THAT(second.err(), HasSubstr("a daemon listens on " + socket_ + " already"));
  EXPECT_EQ(Run({"submit", "--", "true"}).status, 0) << "the first goes on";
}

TEST_F(DaemonTest, KilledZygoteIsReplaced) {
  StartDaemon({"--pool", "8"});
  const auto tree = nlohmann::json::parse(Out({"tree", "--json"}));
  int zygote = 0;
  for (const auto& child : tree["children"]) {
    if (child["role"] == "zygote") zygote = child["pid"];
  }
  ASSERT_GT(zygote, 0);
  const std::string id = Detached({}, "sleep 1; exit 2");
  kill(zygote, SIGKILL);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(Run({"submit", "--", "true"}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 2) << "what ran goes on";
  EXPECT_EQ(Stats()["zygotes_replaced"], 1);
}

TEST_F(DaemonTest, SecondSignalEndsThoseThatWaitToo) {
  StartDaemon({"--pool", "1", "--max-running", "1"});
  Brood running(With(Words{"submit"} + Shell("echo up; sleep 1000")));
  running.AwaitOutput("up");
  Brood waiting(With({"submit", "--name", "queued", "--", "true"}));
  ASSERT_TRUE(ComesTrue([&] { return Run({"inspect", "queued"}).status == 0; }));
  daemon_->Kill(SIGTERM);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("draining") != std::string::npos; }));
  EXPECT_FALSE(waiting.Ended()) << "it has been let in";
  daemon_->Kill(SIGTERM);
  EXPECT_EQ(waiting.Wait(), 125);
  EXPECT_THAT(waiting.err(), HasSubstr("ended before its turn came"));
  EXPECT_EQ(running.Wait(), 137);
  EXPECT_EQ(daemon_->Wait(), 0);
  daemon_.reset();
}

TEST_F(DaemonTest, ExecAfterAReloadIsBehindTheIsolationOfItsIsolate) {
  const std::filesystem::path config = directory_ / "brood.toml";
  std::ofstream(config) << "max-running = 2\n[template.a]\nparked = 1\n";
  StartDaemon({"--config", config.string()});
  const std::string one = Detached({}, "sleep 1000");
  const std::string two = Detached({}, "sleep 1000");
  // Submitted to the first template, served by its successor.
  Brood late(With(Words{"submit", "--name", "late"} + Shell("echo up; sleep 1000")));
  ASSERT_TRUE(ComesTrue([&] { return Run({"inspect", "late"}).status == 0; }));
  std::ofstream(config) << "max-running = 2\n[template.a]\nparked = 1\ncap-add = 'NET_RAW'\n";
  daemon_->Kill(SIGHUP);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("\"reloaded\"") != std::string::npos; })) << Log();
  EXPECT_EQ(Run({"kill", one}).status, 0);
  late.AwaitOutput("up");
  const Words capabilities = {"grep", "-h", "CapEff", "/proc/1/status", "/proc/self/status"};
  const auto expect_same = [&](const std::string& isolate, const char* effective) {
    const std::string line = std::string("CapEff:\t") + effective + "\n";
    EXPECT_EQ(Out(Words{"exec", isolate} + capabilities), line + line) << isolate;
  };
  EXPECT_EQ(Run({"wait", one}).status, 137);
  Run({"kill", two});
  EXPECT_EQ(Run({"wait", two}).status, 137);
  expect_same("late", "0000000000002000");
  // And one that was there before goes on behind those of the first.
  const std::string now = Detached({}, "sleep 1000");
  std::ofstream(config) << "max-running = 2\n[template.a]\nparked = 1\n";
  daemon_->Kill(SIGHUP);
  const auto reloads = [&] {
    std::size_t count = 0;
    const std::string log = Log();
    for (std::size_t at = 0; (at = log.find("\"reloaded\"", at)) != std::string::npos; ++at)
      ++count;
    return count;
  };
  ASSERT_TRUE(ComesTrue([&] { return reloads() == 2; })) << Log();
  EXPECT_EQ(Run({"kill", "late"}).status, 0);
  EXPECT_EQ(late.Wait(), 137);
  expect_same(now, "0000000000002000");
  EXPECT_EQ(Run({"kill", now}).status, 0);
}

}  // namespace
}  // namespace brood
