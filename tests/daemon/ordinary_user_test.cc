// SPDX-License-Identifier: Apache-2.0

// A daemon of an ordinary user's.
#include "tests/ordinary_user.h"

#include <gmock/gmock.h>
#include <grp.h>

#include <nlohmann/json.hpp>

#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class OrdinaryDaemonTest : public DaemonTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
    DaemonTest::SetUp();
    ASSERT_EQ(chown(directory_.c_str(), kOrdinaryUser, kOrdinaryUser), 0);
  }
  void TearDown() override {
    if (geteuid() == 0) DaemonTest::TearDown();
  }
  // In the ordinary user's place, with a runtime directory as systemd makes it.
  void Become() const {
    BecomeOrdinary();
    setenv("XDG_RUNTIME_DIR", directory_.c_str(), 1);
    unsetenv("BROOD_SOCKET");
  }
  std::string RunAsUser(const Words& arguments) const {
    Brood brood(arguments, [this] { Become(); });
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
    return brood.out();
  }
};

TEST_F(OrdinaryDaemonTest, ServesItsUserInTheRuntimeDirectory) {
  daemon_ = std::make_unique<Brood>(Words{"serve", "--pool", "3"}, [&] {
    alarm(0);
    Become();
  });
  ASSERT_TRUE(ComesTrue([&] { return Log().find("\"listening\"") != std::string::npos; })) << Log();
  EXPECT_THAT(Log(), HasSubstr((directory_ / "brood/brood.sock").string()));
  EXPECT_TRUE(ComesTrue([&] {
    return Log().find("a range of host ids for each worker") != std::string::npos;
  })) << "what root would add: "
      << Log();

  EXPECT_EQ(RunAsUser(Words{"submit"} + Shell("echo $(id -u) $$ $(hostname)")), "0 1 brood\n");
  const auto stats = nlohmann::json::parse(RunAsUser({"stats", "--json"}), nullptr, false);
  EXPECT_EQ(stats["hits"], 1) << "it came from a parked worker";
  EXPECT_THAT(stats["fallbacks"].dump(), HasSubstr("one id"));
  std::string id = RunAsUser(Words{"submit", "-d"} + Shell("echo kept; exec sleep 1000"));
  id.pop_back();
  ASSERT_TRUE(ComesTrue([&] { return RunAsUser({"logs", id}) == "kept\n"; }));
  EXPECT_THAT(RunAsUser({"ps"}), HasSubstr(id));
  EXPECT_THAT(RunAsUser({"tree"}), HasSubstr("sleep 1000"));
  const std::string same =
      "for each in cgroup ipc mnt net pid time user uts; do"
      " readlink /proc/self/ns/$each; readlink /proc/1/ns/$each; done | uniq -c | grep -vc ' 2 '";
  EXPECT_EQ(RunAsUser(Words{"exec", id} + Shell("id -u; " + same + "; :")), "0\n0\n");
  RunAsUser({"kill", id});
  EXPECT_EQ(StopDaemon(), 0);
  EXPECT_FALSE(fs::exists(directory_ / "brood/brood.sock"));
}

TEST_F(OrdinaryDaemonTest, ExecHasTheIdsOfARange) {
  if (access("/usr/bin/newuidmap", X_OK) != 0) GTEST_SKIP() << "needs newuidmap (uidmap)";
  StartDaemon({"--pool", "2"}, [&] {
    GiveSubordinateIds(directory_);
    Become();
  });
  const std::string id = Detached({}, "echo $(id -u) $(id -G) > /tmp/first; exec sleep 1000");
  EXPECT_EQ(Out(Words{"exec", id} + Shell("until [ -s /tmp/first ]; do sleep 0.01; done;"
                                          "id -u; id -G; cat /tmp/first; touch /tmp/x;"
                                          "stat -c %u:%g /tmp/x /tmp/first")),
            "0\n0\n0 0\n0:0\n0:0\n");
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_EQ(StopDaemon(), 0);
}

TEST_F(OrdinaryDaemonTest, OthersAreRefused) {
  StartDaemon({"--pool", "2"}, [&] { Become(); });
  ExpectServes();  // root, who may do anything to that user anyway
  Brood other(With({"submit", "--", "true"}), [] {
    MustDo(setgroups(0, nullptr) == 0);
    MustDo(setresgid(65533, 65533, 65533) == 0);
    MustDo(setresuid(65533, 65533, 65533) == 0);
  });
  EXPECT_EQ(other.Wait(), 125);
}

TEST_F(OrdinaryDaemonTest, ServesWithEpollAndInADelegatedCgroup) {
  const DelegatedCgroup cgroup;
  if (!cgroup.there()) GTEST_SKIP() << "needs a cgroup2 mount";
  StartDaemon({"--pool", "4"}, [&] {
    cgroup.Enter();
    Become();
    RefuseIoUring(EPERM);
  });
  EXPECT_THAT(Log(), HasSubstr(cgroup.path() + "/brood/"));
  EXPECT_TRUE(ComesTrue([&] { return Log().find("epoll") != std::string::npos; })) << Log();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Out(Words{"submit"} + Shell("echo out; echo err >&2")), "out\n");
  }
  if (cgroup.Has("pids")) {
    const auto limited =
        Run(Words{"submit", "--pids", "3"} + Shell("for i in 1 2 3 4; do sleep 0.01 & done; wait"));
    EXPECT_NE(limited.status, 0);
    EXPECT_THAT(limited.err, HasSubstr("its own pids limit (3, pids.max) was reached"));
  }
  // The whole of a worker's cgroup ends with it, the children it left behind too.
  const std::string id = Detached({}, "sleep 1000 & sleep 1000");
  ASSERT_TRUE(ComesTrue([&] { return Inspect(id)["state"] == "running"; }));
  const std::string leaf = Inspect(id)["cgroup"];
  Brood exec(With({"exec", id, "--", "sleep", "1000"}));
  EXPECT_TRUE(ComesTrue([&] {
    const std::string members = ReadText(leaf + "/cgroup.procs");
    return std::count(members.begin(), members.end(), '\n') == 4;  // the shell, and three sleeps
  }));
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_EQ(exec.Wait(), 137) << "it ends with the isolate";
  EXPECT_TRUE(ComesTrue([&] { return Inspect(id)["state"] == "ended"; }));
  EXPECT_EQ(StopDaemon(), 0);
}

TEST_F(OrdinaryDaemonTest, WithoutARuntimeDirectoryItSaysWhatToDo) {
  Brood brood({"serve"}, [&] {
    Become();
    unsetenv("XDG_RUNTIME_DIR");
  });
  EXPECT_EQ(brood.Wait(), 125);
  EXPECT_THAT(brood.err(), HasSubstr("--socket"));
  EXPECT_THAT(brood.err(), HasSubstr("XDG_RUNTIME_DIR"));
}

}  // namespace
}  // namespace brood
