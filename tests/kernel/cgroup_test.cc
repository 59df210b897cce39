// SPDX-License-Identifier: Apache-2.0

// Finding a place, and a parent cgroup from its making to its removal.
#include "spawn/cgroup/cgroup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <cerrno>
#include <string>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/without.h"
#include "tests/kernel/cgroup_test.h"
#include "tests/needs_limits.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(CgroupTest, DiscoversThisHost) {
  EXPECT_THAT(real_.base, StartsWith(real_.mount));
  EXPECT_TRUE(Exists(real_.mount + "/cgroup.controllers"));
  EXPECT_EQ(real_.has_kill, Exists(host_.base + "/cgroup.kill") && !Without(Way::kCgroupKill));
  EXPECT_FALSE(real_.own.empty());
  EXPECT_TRUE(Exists(real_.own + "/cgroup.procs"));
}

TEST_F(CgroupTest, PrefersADelegatedCgroup) {
  const std::string own = host_.base + "/delegated";
  ASSERT_EQ(mkdir(own.c_str(), 0755), 0);
  ASSERT_EQ(mkdir((own + "/inner").c_str(), 0755), 0);
  if (setxattr(own.c_str(), "trusted.delegate", "1", 1, 0) != 0) {
    rmdir((own + "/inner").c_str());
    rmdir(own.c_str());
    GTEST_SKIP() << "missing: trusted extended attributes (CAP_SYS_ADMIN)";
  }
  for (const std::string& place : {own, own + "/inner"}) {
    EXPECT_EQ(ExitCode(ForkInto(place,
                                [&] {
                                  const auto host = CgroupHost::Discover();
                                  return host.ok() && host->own == place && host->base == own ? 0
                                                                                              : 1;
                                })),
              0)
        << place;
  }
  EXPECT_EQ(rmdir((own + "/inner").c_str()), 0);
  EXPECT_EQ(rmdir(own.c_str()), 0);
}

TEST_F(CgroupTest, SaysWhatToDoWithoutAPlace) {
  CgroupHost host = host_;
  host.base.clear();
  EXPECT_TRUE(absl::IsPermissionDenied(ParentCgroup::Create(host, {}).status()));
  host.layout = CgroupLayout::kNone;
  const absl::Status status = ParentCgroup::Create(host, {}).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(Message(status)), HasSubstr("mount -t cgroup2"));
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host).value(), 0);
}

TEST_F(CgroupTest, ParentIsLockedWhileItLives) {
  ParentCgroup parent = MakeParent();
  EXPECT_THAT(parent.path(), StartsWith(host_.base + "/brood/"));
  const UniqueFd other(open(parent.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(flock(other.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_NE(fcntl(parent.fd(), F_GETFD) & FD_CLOEXEC, 0);

  EXPECT_TRUE(parent.Remove().ok());
  EXPECT_EQ(parent.fd(), -1);
  EXPECT_FALSE(Exists(host_.base + "/brood"));
  EXPECT_TRUE(parent.Remove().ok());
}

TEST_F(CgroupTest, BroodDirectoryIsClosedToOthers) {
  const ParentCgroup parent = MakeParent();
  struct stat info {};
  ASSERT_EQ(stat((host_.base + "/brood").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0711U);
}

TEST_F(CgroupTest, RemovingOneParentLeavesTheOther) {
  ParentCgroup first = MakeParent();
  const ParentCgroup second = MakeParent();
  EXPECT_TRUE(first.Remove().ok());
  EXPECT_TRUE(Exists(second.path()));
}

TEST_F(CgroupTest, DestructorKillsWhatRuns) {
  pid_t pid = -1;
  {
    const ParentCgroup parent = MakeParent();
    pid = ForkInto(MakeLeaf(parent, "a"), Sleep);
    MakeLeaf(parent, "b");
  }
  EXPECT_TRUE(WasKilled(pid));
  EXPECT_FALSE(Exists(host_.base + "/brood"));
}

TEST_F(CgroupTest, MovingHandsTheParentOver) {
  ParentCgroup first = MakeParent();
  const std::string path = first.path();
  ParentCgroup second = MakeParent();
  const std::string replaced = second.path();
  second = std::move(first);
  EXPECT_FALSE(Exists(replaced));
  EXPECT_TRUE(Exists(path));
  EXPECT_EQ(second.path(), path);
}

TEST_F(CgroupTest, ForkedCopyLeavesTheParentAlone) {
  const ParentCgroup parent = MakeParent();
  auto* const copy = new ParentCgroup(MakeParent());
  const std::string path = copy->path();
  EXPECT_EQ(ExitCode(Fork([&] {
              delete copy;
              return 0;
            })),
            0);
  EXPECT_TRUE(Exists(path));
  delete copy;
  EXPECT_FALSE(Exists(path));
}

}  // namespace
}  // namespace brood
