// SPDX-License-Identifier: Apache-2.0

// An init in workers that the daemon keeps parked.
#include "tests/init.h"

#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

TEST_F(DaemonTest, ParkedWorkersHaveAnInitOnceTheyRun) {
  StartDaemon({"--template", "default=--init --parked 2"});
  EXPECT_EQ(Out(Words{"submit"} + Shell(std::string(kNameOfInit) + "; echo $PPID")),
            "brood-init\n1\n");
  EXPECT_EQ(Run({"submit", "--", "/no/such/program"}).status, 127);
  EXPECT_EQ(Run({"submit", "--", "/etc/passwd"}).status, 126);
  EXPECT_EQ(Run({"submit", "--", "/bin/sh", "-c", "exit 9"}).status, 9);
  const std::string id = Detached({}, "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
  ASSERT_TRUE(ComesTrue([&] { return Out({"logs", id}) == "up\n"; }));
  EXPECT_EQ(Out({"exec", id, "/bin/cat", "/proc/1/comm"}), "brood-init\n");
  EXPECT_EQ(Run({"stop", id}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 5);
  // Only exec needs a worker of its own.
  EXPECT_EQ(Stats()["misses"]["own_limits_or_exec"], 1);
}

TEST_F(DaemonTest, OneSubmissionMayHaveAnInit) {
  StartDaemon();
  EXPECT_EQ(Out(Words{"submit", "--init"} + Shell(kNameOfInit)), "brood-init\n");
  EXPECT_EQ(Out({"submit", "--", "/bin/cat", "/proc/1/comm"}), "cat\n");
}

}  // namespace
}  // namespace brood
