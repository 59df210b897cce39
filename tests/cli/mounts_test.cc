// SPDX-License-Identifier: Apache-2.0

// What a worker sees below its root: what was given, wherever it lies, and what is mounted on the
// host, however many, hidden or dead.
#include <gmock/gmock.h>
#include <sys/mount.h>

#include <thread>

#include "tests/escape/outside.h"
#include "tests/needs.h"
#include "tests/ordinary_user.h"

namespace brood {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class MountsTest : public OutsideTest {
 protected:
  void SetUp() override {
    OutsideTest::SetUp();
    if (IsSkipped()) return;
    BROOD_NEEDS_ROOT();
    // What tests mount on the host is seen by brood alone, and gone with it.
    for (const char* each : {"a/sub", "b"}) fs::create_directories(base_ / each);
    for (const char* each : {"closed/mount", "with space", "dead", "below"}) {
      fs::create_directories(host_ / each);
    }
    std::ofstream(base_ / "a/file") << "of a\n";
    std::ofstream(base_ / "b/file") << "of b\n";
  }

  void TearDown() override {
    fs::remove_all(host_);
    OutsideTest::TearDown();
  }

  Words Rooted(const Words& options) const {
    return Words{"run", "--rootfs", root_.string()} + options;
  }
  static void MountTmpfs(const fs::path& at, std::string_view text = {}) {
    MustDo(mount("tmpfs", at.c_str(), "tmpfs", 0, "mode=0755") == 0);
    if (!text.empty()) std::ofstream(at / "file") << text;
  }
  // In this process' own mounts, each test's host has what it is about.
  static Result OnAHostWith(const std::function<void()>& host, const Words& arguments) {
    Result result = Run(arguments, [&] {
      OwnMounts();
      host();
    });
    EXPECT_EQ(result.status, 0) << ::testing::PrintToString(arguments) << result.err;
    return result;
  }

  // Seen by the host's tree, unlike what is below /tmp.
  const fs::path host_ = fs::path("/var/tmp") / fmt::format("brood_mounts_{}", getpid());
};

TEST_F(MountsTest, BindsAreSeenWhateverTheirOrder) {
  const std::string a = (base_ / "a").string() + ":/mnt";
  const std::string b = (base_ / "b").string() + ":/mnt/sub";
  const Words script = Inside("cat /mnt/file /mnt/sub/file");
  for (const Words& binds : {Words{"-v", a, "-v", b}, Words{"-v", b, "-v", a}}) {
    const Result result = Run(Rooted(binds) + script);
    EXPECT_EQ(result.out, "of a\nof b\n") << result.err;
  }
  const Result parked =
      Run(Words{"burst", "-n", "2", "--rootfs", root_.string(), "-v", b, "-v", a} + script);
  EXPECT_EQ(parked.status, 0) << parked.err;
}

TEST_F(MountsTest, NoBindIsEverCoveredSilently) {
  const std::string a = (base_ / "a").string();
  for (const char* place : {"/tmp", "/run", "/dev/shm", "/sys", "/sys/fs/cgroup", "/etc", "/mnt",
                            "/tmp/made", "/run/made", "/dev/shm/made", "/dev/made"}) {
    SCOPED_TRACE(place);
    for (const Words& root : {Words{"--rootfs", root_.string()}, Words{}}) {
      const Words words =
          root + Words{"-v", a + ":" + place} + Inside(fmt::format("cat {}/file", place));
      const Result cold = Run(Words{"run"} + words);
      EXPECT_EQ(cold.out, "of a\n") << cold.err;
      const Result parked = Run(Words{"burst", "-n", "1"} + words);
      EXPECT_EQ(parked.status, 0) << parked.err;
    }
  }
  for (const char* place : {"/proc", "/proc/self", "/dev", "/dev/pts", "/dev/pts/0", "/"}) {
    const Result result = Run(Rooted({"-v", a + ":" + place, "--", "/bin/true"}));
    EXPECT_EQ(result.status, 125) << place;
    EXPECT_THAT(result.err, ::testing::ContainsRegex("cannot bind|cannot replace the root"))
        << place;
  }
  const Result twice = Run(Rooted({"-v", a + ":/mnt", "-v", a + ":/mnt", "--", "/bin/true"}));
  EXPECT_EQ(twice.status, 125);
  EXPECT_THAT(twice.err, HasSubstr("is to be mounted there, too"));
  const Result missing =
      Run(Rooted({"-v", a + ":/mnt", "-v", a + ":/mnt/none", "--", "/bin/true"}));
  EXPECT_EQ(missing.status, 125);
  EXPECT_THAT(missing.err, HasSubstr("/mnt/none")) << "nothing is made in what was given";
  EXPECT_FALSE(fs::exists(base_ / "a/none"));
}

TEST_F(MountsTest, RunIsATmpfsOfItsOwn) {
  for (const char* mode : {"ro", "rw", "overlay"}) {
    const Result result =
        Run(Rooted({"--root-mode", mode, "--", "/bin/sh", "-c", "touch /run/x && ls /run"}));
    EXPECT_EQ(result.out, "x\n") << result.err;
  }
  EXPECT_FALSE(fs::exists(root_ / "run/x"));
  const Result parked = Run(Words{"burst", "-n", "2"} + Inside("touch /run/x"));
  EXPECT_EQ(parked.status, 0) << parked.err;
}

TEST_F(MountsTest, AMountThatOthersCannotReachDoesNotMatter) {
  fs::permissions(host_ / "closed", fs::perms::owner_all);
  const auto host = [&] { MountTmpfs(host_ / "closed/mount", "closed\n"); };
  OnAHostWith(host, {"run", "--", "/bin/true"});
  OnAHostWith(host, {"burst", "-n", "2", "--", "/bin/true"});
}

TEST_F(MountsTest, ADeadMountDoesNotMatter) {
  // A filesystem whose server is gone: every look at it fails with ENOTCONN.
  const auto host = [&] {
    const int server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (server < 0) _exit(0);
    const std::string options =
        fmt::format("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", server);
    MustDo(mount("dead", (host_ / "dead").c_str(), "fuse", 0, options.c_str()) == 0);
    close(server);
  };
  OnAHostWith(host, {"run", "--", "/bin/true"});
  OnAHostWith(host, {"burst", "-n", "2", "--", "/bin/true"});
}

TEST_F(MountsTest, FiveHundredMountsAreNotTooMany) {
  const auto host = [&] {
    for (int i = 0; i < 500; ++i) {
      const fs::path at = host_ / "below" / std::to_string(i);
      fs::create_directories(at);
      MountTmpfs(at);
    }
    MountTmpfs(host_ / "below/499", "the last\n");
  };
  const std::string last = (host_ / "below/499/file").string();
  EXPECT_EQ(OnAHostWith(host, {"run", "--", "/bin/cat", last}).out, "the last\n");
  OnAHostWith(host, Words{"burst", "-n", "2"} + Inside("cat " + last));
}

TEST_F(MountsTest, AMountPointWithASpaceHasItsContents) {
  const auto host = [&] { MountTmpfs(host_ / "with space", "spacious\n"); };
  EXPECT_EQ(OnAHostWith(host, {"run", "--", "/bin/cat", (host_ / "with space/file").string()}).out,
            "spacious\n");
}

TEST_F(MountsTest, WhatIsMountedBelowTheRootIsInTheOverlay) {
  const auto host = [&] { MountTmpfs(root_ / "mnt", "below\n"); };
  const Result result =
      OnAHostWith(host, Rooted({"--root-mode", "overlay", "--json", (base_ / "json").string(), "--",
                                "/bin/cat", "/mnt/file"}));
  EXPECT_EQ(result.out, "below\n");
  EXPECT_THAT(ReadText(base_ / "json"), HasSubstr("writes to /mnt in the overlay"));
}

TEST_F(MountsTest, OwnersBelowABindAreMappedOrItIsTold) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const Result result =
      Run(Rooted({"-v", (base_ / "a").string() + ":/mnt", "--json", (base_ / "json").string(), "--",
                  "/bin/stat", "-c", "%u", "/mnt/sub"}),
          [&] {
            OwnMounts();
            MountTmpfs(base_ / "a/sub");
          });
  EXPECT_EQ(result.status, 0) << result.err;
  const bool told = ReadText(base_ / "json").find("nobody") != std::string::npos;
  EXPECT_EQ(result.out, told ? "65534\n" : "0\n");
}

TEST_F(MountsTest, ResolvConfHasItsTextWhereverItLeads) {
  // As on Ubuntu: a link into /run, which is the worker's own.
  fs::create_directories(base_ / "etc");
  for (const char* each : {"passwd", "group", "ld.so.cache"}) {
    if (fs::exists(fs::path("/etc") / each)) {
      fs::copy_file(fs::path("/etc") / each, base_ / "etc" / each);
    }
  }
  const auto host = [&] {
    MountTmpfs("/run");
    fs::create_directories("/run/resolver");
    std::ofstream("/run/resolver/stub.conf") << "nameserver 192.0.2.1\n";
    fs::create_symlink("../run/resolver/stub.conf", base_ / "etc/resolv.conf");
    Cover("/etc", (base_ / "etc").c_str());
  };
  EXPECT_EQ(OnAHostWith(host, {"run", "--net", "host", "--", "/bin/cat", "/etc/resolv.conf"}).out,
            "nameserver 192.0.2.1\n");
}

TEST_F(MountsTest, SysShowsTheWorkersOwnNetwork) {
  for (const Words& root : {Words{"--rootfs", root_.string()}, Words{}}) {
    const Result result =
        Run(Words{"run"} + root + Words{"--", "/bin/sh", "-c", "ls /sys/class/net"});
    EXPECT_EQ(result.out, "lo\n") << result.err;
  }
}

TEST_F(MountsTest, ItsCgroupIsThereToBeRead) {
  for (const Words& root : {Words{"--rootfs", root_.string()}, Words{}}) {
    const Result result = Run(Words{"run"} + root +
                              Words{"--", "/bin/sh", "-c",
                                    "read first < /sys/fs/cgroup/cgroup.procs; echo $first; echo 1 "
                                    "> /sys/fs/cgroup/cgroup.kill || echo no"});
    EXPECT_EQ(result.out, "1\nno\n") << result.err;
  }
}

TEST_F(MountsTest, LocalhostAndItsOwnNameAreKnown) {
  const auto hosts = [&](const Words& options) {
    return Run(Rooted(options + Words{"--", "/bin/cat", "/etc/hosts"})).out;
  };
  // A root without the file, with an empty one, with a link to one, and one that keeps writes.
  EXPECT_THAT(hosts({}), HasSubstr("127.0.0.1\tbrood\n"));
  const std::string json = base_ / "json";
  const std::string kept = hosts({"--root-mode", "overlay", "--json", json});
  if (kept.empty()) {  // without idmapped mounts /etc is nobody's: no file can be made there
    EXPECT_THAT(ReadText(json),
                HasSubstr("the root has no such file and its /etc belongs to nobody"));
  } else {
    EXPECT_THAT(kept, HasSubstr("127.0.0.1\tlocalhost\n"));
  }
  if (!Without(Way::kIdmap)) {
    EXPECT_NE(kept, "");
  }
  std::ofstream(root_ / "etc/hosts").flush();
  EXPECT_THAT(hosts({"--hostname", "other"}), HasSubstr("127.0.0.1\tother\n"));
  EXPECT_THAT(hosts({"--root-mode", "rw"}), HasSubstr("127.0.0.1\tbrood\n"));
  EXPECT_EQ(ReadText(root_ / "etc/hosts"), "");
  const Result host = Run({"run", "--", "/bin/sh", "-c", "getent hosts $(hostname) localhost"});
  EXPECT_EQ(host.status, 0) << host.out << host.err;
}

TEST_F(MountsTest, WhatTellsOfTheMachineIsHiddenWhereIdsAreTheHosts) {
  const std::string look =
      "ls -A /sys/firmware /sys/devices/virtual/powercap 2>/dev/null | grep -v : ; "
      "cat /proc/slabinfo /proc/vmallocinfo";
  const Result result = Run({"run", "--no-user", "--", "/bin/sh", "-c", look});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, Not(HasSubstr("slabinfo")));
  EXPECT_THAT(result.out, ::testing::MatchesRegex("\n*"));
}

}  // namespace
}  // namespace brood
