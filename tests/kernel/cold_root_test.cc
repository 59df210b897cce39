// SPDX-License-Identifier: Apache-2.0

// Roots, mounts and devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "tests/kernel/cold.h"
#include "tests/needs.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(ColdRootTest, ReadOnlyRootRefusesWrites) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  EXPECT_EQ(Output(Rooted(RootMode::kReadOnly),
                   "cat /etc/original; stat -c %u:%g /etc/original;"
                   "for d in / /etc /mnt /dev; do touch $d/x 2>/dev/null && echo wrote $d; done;"
                   "touch /tmp/x && ls /"),
            "original\n0:0\nbin\ndata\ndev\netc\nmnt\nproc\nrun\nsys\ntmp\n");
}

TEST_F(ColdRootTest, WritableRootKeepsWritesWithTheirOwner) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  Spec spec = Rooted(RootMode::kReadWrite);
  EXPECT_EQ(
      Output(spec, "echo new > /etc/new; touch /etc/theirs; mkdir /etc/made; stat -c %u /etc/new"),
      "0\n");
  EXPECT_EQ(TextOf(root_ / "etc/new"), "new\n");
  struct stat info {};
  ASSERT_EQ(stat((root_ / "etc/new").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0U) << "the worker's root writes as the root's owner";
  EXPECT_EQ(info.st_mode & 07777, 0644U);

  spec.uid = 1000;
  spec.gid = 1001;
  fs::permissions(root_ / "data", fs::perms::all);
  EXPECT_EQ(Output(spec, "touch /data/mine; stat -c %u:%g /data/mine"), "1000:1001\n");
  ASSERT_EQ(stat((root_ / "data/mine").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 1000U);
  EXPECT_EQ(info.st_gid, 1001U);
}

TEST_F(ColdRootTest, OverlayForgetsWrites) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const Spec spec = Rooted(RootMode::kOverlay);
  EXPECT_EQ(Output(spec,
                   "echo changed > /etc/original; touch /new; rm -r /mnt;"
                   "cat /etc/original; ls /"),
            "changed\nbin\ndata\ndev\netc\nnew\nproc\nrun\nsys\ntmp\n");
  EXPECT_EQ(TextOf(root_ / "etc/original"), "original\n");
  EXPECT_FALSE(fs::exists(root_ / "new"));
  EXPECT_TRUE(fs::exists(root_ / "mnt"));
  EXPECT_EQ(Output(spec, "cat /etc/original"), "original\n") << "nor does the next one see them";
}

// The root has none of these places, and is left without them.
TEST_F(ColdRootTest, AnOverlayIsGivenThePlacesThatTheRootLacks) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  Spec spec = Rooted(RootMode::kOverlay);
  for (const char* const name : {"tmp", "run", "sys"}) fs::remove(root_ / name);
  fs::create_directory_symlink("/made/by", root_ / "link");
  const std::string file = root_ / "etc/original";
  spec.binds = {{root_ / "etc", "/app/deep", /*read_only=*/true},
                {file, "/srv/file", /*read_only=*/true},
                {root_ / "etc", "/link/brood", /*read_only=*/true}};
  spec.tmpfs = {{.target = "/scratch", .bytes = 1 << 20, .mode = 01777}};
  EXPECT_EQ(Output(spec,
                   "cat /app/deep/original /srv/file /made/by/brood/original; "
                   "touch /scratch/x /tmp/x && ls -d /sys/class"),
            "original\noriginal\noriginal\n/sys/class\n");
  for (const char* const name : {"app", "srv", "made", "scratch", "tmp"}) {
    EXPECT_FALSE(fs::exists(root_ / name)) << name;
  }
  fs::create_directory(root_ / "tmp");
  spec.root.mode = RootMode::kReadOnly;
  const absl::Status refused = Blueprint::Make(spec, PlanKind::kCold).status();
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("choose the root mode overlay"));
}

TEST_F(ColdRootTest, OverlayHasItsSize) {
  Spec spec = Rooted(RootMode::kOverlay);
  spec.root.overlay_bytes = 1 << 20;
  const Outcome outcome = Run(spec, Shell("dd if=/dev/zero of=/big bs=100k count=40"));
  EXPECT_NE(outcome.exit_code, 0) << Ending(outcome);
  EXPECT_THAT(outcome.err, HasSubstr("No space left on device"));
}

TEST_F(ColdRootTest, TmpfsHaveTheirSizes) {
  Spec spec = Rooted(RootMode::kReadOnly);
  spec.tmp_bytes = 1 << 20;
  spec.tmpfs = {{.target = "/mnt", .bytes = 1 << 20, .mode = 0700},
                {.target = "/tmp/scratch", .bytes = 1 << 20, .mode = 01777}};
  for (const char* place : {"/tmp", "/dev/shm", "/mnt", "/tmp/scratch"}) {
    const Outcome outcome =
        Run(spec, Shell(fmt::format("dd if=/dev/zero of={0}/fits bs=100k count=9 && echo fits;"
                                    "dd if=/dev/zero of={0}/beyond bs=100k count=9",
                                    place)));
    EXPECT_EQ(outcome.out, "fits\n") << place;
    EXPECT_NE(outcome.exit_code, 0) << place;
    EXPECT_THAT(outcome.err, HasSubstr("No space left on device")) << place;
  }
  EXPECT_EQ(Output(spec, "stat -c %a /mnt /tmp/scratch"), "700\n1777\n");
}

TEST_F(ColdRootTest, BindsShowTheHostsFiles) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const fs::path shared = directory_ / "shared";
  fs::create_directories(shared);
  std::ofstream(shared / "note") << "note\n";
  const std::string file = Write("file", "one file\n");
  Spec spec = Rooted(RootMode::kReadOnly);
  spec.binds = {{shared, "/mnt", true},         {shared, "/data", false},
                {file, "/etc/original", true},  {shared, "/tmp/made/below", false},
                {file, "/tmp/made/file", true}, {shared, "/dev/shared", true}};
  EXPECT_EQ(Output(spec,
                   "cat /mnt/note /data/note /etc/original /tmp/made/below/note /tmp/made/file"
                   "    /dev/shared/note;"
                   "touch /mnt/x 2>/dev/null && echo wrote ro;"
                   "(echo y > /etc/original) 2>/dev/null && echo wrote ro;"
                   "(echo y > /tmp/made/file) 2>/dev/null && echo wrote ro;"
                   "echo back > /data/back; touch /tmp/made/below/back2; cat /mnt/back"),
            "note\nnote\none file\nnote\none file\nnote\nback\n");
  EXPECT_EQ(TextOf(shared / "back"), "back\n");
  EXPECT_EQ(TextOf(file), "one file\n");
  struct stat info {};
  ASSERT_EQ(stat((shared / "back2").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0U);
}

TEST_F(ColdRootTest, BindsIntoTheHostsTree) {
  const std::string file = Write("file", "one file\n");
  Spec spec;
  spec.binds = {
      {file, "/etc/hostname", true}, {file, "/run/made/file", true}, {file, "/tmp/file", true}};
  if (!fs::is_regular_file("/etc/hostname")) GTEST_SKIP() << "missing: /etc/hostname";
  EXPECT_EQ(Output(spec, "cat /etc/hostname /run/made/file /tmp/file"),
            "one file\none file\none file\n");
}

TEST_F(ColdRootTest, DevicesAndSetuidOfARootMeanNothing) {
  ASSERT_EQ(mknod((root_ / "data/zero").c_str(), S_IFCHR | 0666, makedev(1, 5)), 0);
  chmod((root_ / "bin/busybox").c_str(), 04755);
  for (const RootMode mode : {RootMode::kReadOnly, RootMode::kReadWrite, RootMode::kOverlay}) {
    Spec spec = Rooted(mode);
    spec.uid = 1000;
    spec.gid = 1000;
    EXPECT_EQ(Output(spec,
                     "head -c 1 /data/zero 2>/dev/null | wc -c; id -u;"
                     "grep -E '^Uid' /proc/self/status"),
              "0\n1000\nUid:\t1000\t1000\t1000\t1000\n");
  }
}

TEST_F(ColdRootTest, RootsLinksStayInside) {
  const std::string secret = Write("secret", "secret\n");
  fs::create_symlink(secret, root_ / "data/absolute");
  fs::create_symlink("../../../../../.." + secret, root_ / "data/relative");
  const Outcome outcome = Run(Rooted(RootMode::kReadOnly),
                              Shell("cat /data/absolute /data/relative /../../etc/original"));
  EXPECT_EQ(outcome.out, "original\n");
}

TEST_F(ColdRootTest, OldRootIsGone) {
  EXPECT_THAT(Output(Rooted(RootMode::kReadOnly), "cat /proc/self/mountinfo"),
              Not(HasSubstr(" / / ")))
      << "no mount of a whole host filesystem";
}

TEST_F(ColdTest, WhatTellsOfTheHostIsCovered) {
  for (const NamespaceMode users : {NamespaceMode::kNew, NamespaceMode::kHost}) {
    Spec spec;
    spec.ns(NamespaceKind::kUser).mode = users;
    SCOPED_TRACE(users == NamespaceMode::kNew ? "users of its own" : "the host's users");
    // Opening for append writes nothing, so even an uncovered trigger would do no harm.
    EXPECT_EQ(Output(spec,
                     "for f in kcore keys timer_list latency_stats sched_debug interrupts; do"
                     "  n=$(head -c 1 /proc/$f 2>/dev/null | wc -c);"
                     "  [ $n = 0 ] || echo read $f; done;"
                     "for f in sysrq-trigger sys/kernel/hostname sys/vm/drop_caches"
                     "    sys/kernel/core_pattern irq/default_smp_affinity; do"
                     "  [ -e /proc/$f ] || continue;"
                     "  (: >> /proc/$f) 2>/dev/null && echo wrote $f; done;"
                     "for d in /proc/acpi /proc/asound /proc/scsi /run; do"
                     "  ls -A $d 2>/dev/null; done; true"),
              "")
        << "nothing read, nothing written";
  }
}

}  // namespace
}  // namespace brood
