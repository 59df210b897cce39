// SPDX-License-Identifier: Apache-2.0

// What changes on the host under a daemon that runs: mounts that go and come, links and files that
// are replaced.
#include <sched.h>
#include <sys/mount.h>

#include "tests/daemon/daemon_fixture.h"
#include "tests/needs.h"
#include "tests/ordinary_user.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

class HostChangesTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    BROOD_NEEDS_ROOT();
    fs::create_directories(host_);
  }
  void TearDown() override {
    DaemonTest::TearDown();
    fs::remove_all(host_);
  }

  // Does something among the mounts of the process `pid`. Its errno.
  static int Among(pid_t pid, const std::function<int()>& change) {
    const pid_t child = fork();
    if (child == 0) {
      const UniqueFd mounts(
          open(fmt::format("/proc/{}/ns/mnt", pid).c_str(), O_RDONLY | O_CLOEXEC));
      if (setns(mounts.get(), CLONE_NEWNS) != 0) _exit(99);
      _exit(change() == 0 ? 0 : errno);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
  }
  int MountTmpfs(const std::string& text) const {
    if (mount("tmpfs", host_.c_str(), "tmpfs", 0, nullptr) != 0) return -1;
    std::ofstream(host_ / "file") << text;
    return 0;
  }
  void Reload() {
    const auto times = [&] {
      const std::string log = Log();
      int count = 0;
      for (std::size_t at = 0; (at = log.find("\"reloaded\"", at)) != std::string::npos; ++at)
        ++count;
      return count;
    };
    const int before = times();
    daemon_->Kill(SIGHUP);
    ASSERT_TRUE(ComesTrue([&] { return times() > before; })) << Log();
  }

  // Seen by the host's tree, unlike what is below /tmp.
  const fs::path host_ = fs::path("/var/tmp") / fmt::format("brood_changes_{}", getpid());
};

TEST_F(HostChangesTest, MountsCanBeTakenAwayAndNewOnesAreSeenAfterAReload) {
  StartDaemon({"--pool", "1"}, [&] {
    OwnMounts();
    MustDo(MountTmpfs("first\n") == 0);
  });
  const Words read = {"submit", "--", "cat", (host_ / "file").string()};
  EXPECT_EQ(Out(read), "first\n");
  EXPECT_EQ(Among(daemon_->pid(), [&] { return umount2(host_.c_str(), 0); }), 0)
      << "nothing holds it";
  EXPECT_EQ(Among(daemon_->pid(), [&] { return MountTmpfs("second\n"); }), 0);
  Reload();
  EXPECT_EQ(Out(read), "second\n");
}

TEST_F(HostChangesTest, ARunningCommandHoldsNoMountOfTheHost) {
  Brood brood({"run", "--", "sh", "-c", "echo runs; sleep 600"}, [&] {
    OwnMounts();
    MustDo(MountTmpfs("first\n") == 0);
  });
  brood.AwaitOutput("runs");
  EXPECT_EQ(Among(brood.pid(), [&] { return umount2(host_.c_str(), 0); }), 0);
  brood.Kill(SIGTERM);
  EXPECT_EQ(brood.Wait(), 128 + SIGTERM);
}

TEST_F(HostChangesTest, WhatIsReplacedUnderItsNameIsSeenAfterAReload) {
  for (const char* each : {"one", "two"}) {
    fs::create_directories(directory_ / each);
    std::ofstream(directory_ / each / "file") << each << "\n";
  }
  const fs::path link = directory_ / "link";
  const fs::path file = directory_ / "given";
  fs::create_directory_symlink("one", link);
  std::ofstream(file) << "one\n";
  const std::string binds =
      fmt::format("-v {}:/mnt:ro -v {}:/tmp/given:ro", link.string(), file.string());
  StartDaemon(
      {"--template", "parked=--parked 1 " + binds, "--template", "none=--parked 0 " + binds});
  const auto seen = [&](const std::string& name) {
    return Out({"submit", "--template", name, "--", "cat", "/mnt/file", "/tmp/given"});
  };
  EXPECT_EQ(seen("parked"), "one\none\n");
  EXPECT_EQ(seen("none"), "one\none\n");
  fs::remove(link);
  fs::create_directory_symlink("two", link);
  std::ofstream(directory_ / "new") << "two\n";
  fs::rename(directory_ / "new", file);
  Reload();
  EXPECT_EQ(seen("parked"), "two\ntwo\n");
  EXPECT_EQ(seen("none"), "two\ntwo\n");
}

TEST_F(HostChangesTest, AReloadWithoutAChangeKeepsWhatIsParked) {
  StartDaemon({"--pool", "2"});
  ASSERT_TRUE(ComesTrue([&] { return Stats()["parked"] == 2; })) << Stats();
  const auto made = Stats()["parked_total"];
  Reload();
  EXPECT_EQ(Stats()["parked_total"], made);
}

}  // namespace
}  // namespace brood
