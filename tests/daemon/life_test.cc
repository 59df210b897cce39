// The daemon's own life: many clients, reload, drain, death.
#include <atomic>
#include <thread>

#include "spawn/cgroup_host.h"
#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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
  EXPECT_EQ(Out({"exec", id, "hostname"}), "first\n") << "it stays behind its own fences";
  EXPECT_EQ(Run({"kill", id}).status, 0);
  // What is wrong changes nothing, and is told with its line.
  std::ofstream(config) << "[template.a]\nhostnam = \"third\"\n";
  daemon_->Kill(SIGHUP);
  ASSERT_TRUE(ComesTrue([&] { return Log().find("not reloaded") != std::string::npos; }));
  EXPECT_THAT(Log(), HasSubstr("line 1"));
  EXPECT_EQ(Out({"submit", "--", "hostname"}), "second\n");
}

TEST_F(DaemonTest, KilledDaemonTakesAllWithItAndTheNextCleansUp) {
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

}  // namespace
}  // namespace brood
