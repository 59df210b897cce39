// SPDX-License-Identifier: Apache-2.0

// Leaves: killing, awaiting, removing, counting.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <string_view>

#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "tests/kernel/cgroup_test.h"
#include "tests/needs_limits.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

TEST_F(CgroupTest, LeafNamesAreFileNames) {
  const ParentCgroup parent = MakeParent();
  const std::string_view with_nul("a\0b", 3);
  for (const std::string_view name :
       {std::string_view(""), std::string_view("."), std::string_view(".."),
        std::string_view("a/b"), std::string_view("a\nb"), with_nul}) {
    EXPECT_TRUE(absl::IsInvalidArgument(parent.MakeLeaf(name, {}).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(parent.RemoveLeaf(name))) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(parent.KillLeaf(name))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(parent.MakeLeaf(std::string(256, 'x'), {}).status()));
  EXPECT_EQ(parent.MakeLeaf("worker-1", {}).value(), "worker-1");
  EXPECT_TRUE(absl::IsAlreadyExists(parent.MakeLeaf("worker-1", {}).status()));
  EXPECT_TRUE(parent.RemoveLeaf("worker-1").ok());
}

TEST_F(CgroupTest, FullParentIsNamedWithItsFile) {
  const ParentCgroup parent = MakeParent();
  MakeLeaf(parent, "a");
  ASSERT_EQ(WriteFileAt(AT_FDCWD, (parent.path() + "/cgroup.max.descendants").c_str(), "1"), 0);
  const absl::Status refused = parent.MakeLeaf("b", {}).status();
  EXPECT_THAT(std::string(Message(refused)),
              ::testing::AllOf(HasSubstr("EAGAIN"),
                               HasSubstr("cgroup.max.descendants is used up (1 "
                                         "of 1, " +
                                         parent.path()),
                               HasSubstr("echo max > ")));
}

TEST_F(CgroupTest, MissingLeafIsNotFound) {
  const ParentCgroup parent = MakeParent();
  EXPECT_TRUE(absl::IsNotFound(parent.KillLeaf("none")));
  EXPECT_TRUE(absl::IsNotFound(parent.RemoveLeaf("none")));
  EXPECT_TRUE(absl::IsNotFound(parent.LeafPopulated("none").status()));
  EXPECT_TRUE(absl::IsNotFound(parent.AwaitLeafEmpty("none", kSoon)));
  EXPECT_EQ(parent.ReadLeafUsage("none").cpu_us, std::nullopt);
}

TEST_F(CgroupTest, KillsAwaitsAndRemovesALeaf) {
  const ParentCgroup parent = MakeParent();
  const std::string leaf = MakeLeaf(parent, "leaf");
  EXPECT_FALSE(parent.LeafPopulated("leaf").value());
  // A process with a child of its own: nobody but the cgroup knows both.
  const pid_t pid = ForkInto(leaf, [] {
    fork();
    return Sleep();
  });
  EXPECT_TRUE(parent.LeafPopulated("leaf").value());
  EXPECT_TRUE(parent.KillLeaf("leaf").ok());
  EXPECT_TRUE(parent.AwaitLeafEmpty("leaf", kSoon).ok());
  EXPECT_FALSE(parent.LeafPopulated("leaf").value());
  // Not reaped yet: a zombie does not keep its cgroup.
  EXPECT_TRUE(parent.RemoveLeaf("leaf").ok());
  EXPECT_FALSE(Exists(leaf));
  EXPECT_TRUE(WasKilled(pid));
}

TEST_F(CgroupTest, AwaitIsWokenByTheKernel) {
  const ParentCgroup parent = MakeParent();
  const pid_t pid = ForkInto(MakeLeaf(parent, "leaf"), [] {
    usleep(100'000);
    return 0;
  });
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_THREAD, &before);
  EXPECT_TRUE(parent.AwaitLeafEmpty("leaf", kSoon).ok());
  getrusage(RUSAGE_THREAD, &after);
  EXPECT_LE(after.ru_nvcsw - before.ru_nvcsw, 10) << "it should sleep once, not poll";
  EXPECT_EQ(ExitCode(pid), 0);
}

TEST_F(CgroupTest, AwaitAndRemoveGiveUpOnWhatLives) {
  const ParentCgroup parent = MakeParent();
  const pid_t pid = ForkInto(MakeLeaf(parent, "leaf"), Sleep);
  const absl::Status await = parent.AwaitLeafEmpty("leaf", milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(await));
  EXPECT_THAT(std::string(Message(await)), HasSubstr(parent.path() + "/leaf"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(parent.RemoveLeaf("leaf", milliseconds(20))));
  EXPECT_TRUE(parent.LeafPopulated("leaf").value());
  EXPECT_TRUE(parent.KillAll().ok());
  EXPECT_TRUE(WasKilled(pid));
}

TEST_F(CgroupTest, RemovesWhatTheWorkerMadeInItsLeaf) {
  // Deeper than there are descriptors for one a level.
  constexpr int kDepth = 300;
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const ParentCgroup parent = MakeParent();
  std::string path = MakeLeaf(parent, "leaf");
  const pid_t at_the_top = ForkInto(path, Sleep);
  for (int depth = 0; depth < kDepth; ++depth) {
    ASSERT_EQ(mkdir((path + "/side").c_str(), 0755), 0) << ErrnoText(errno);
    path += "/d";
    ASSERT_EQ(mkdir(path.c_str(), 0755), 0) << ErrnoText(errno);
  }
  const pid_t at_the_bottom = ForkInto(path, Sleep);
  const rlimit few{64, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  EXPECT_TRUE(parent.KillLeaf("leaf").ok());
  const absl::Status removed = parent.RemoveLeaf("leaf", milliseconds(30'000));
  EXPECT_TRUE(removed.ok()) << removed;
  setrlimit(RLIMIT_NOFILE, &old);
  EXPECT_TRUE(WasKilled(at_the_top));
  EXPECT_TRUE(WasKilled(at_the_bottom));
}

TEST_F(CgroupTest, ReportsOnlyTheUsageThatTheKernelKeeps) {
  const ParentCgroup parent = MakeParent();
  const pid_t pid = ForkInto(MakeLeaf(parent, "leaf"), [] {
    const auto end = steady_clock::now() + milliseconds(30);
    while (steady_clock::now() < end) {
    }
    return 0;
  });
  EXPECT_EQ(ExitCode(pid), 0);
  const LeafUsage usage = parent.ReadLeafUsage("leaf");
  ASSERT_TRUE(usage.cpu_us.has_value());
  EXPECT_GT(*usage.cpu_us, 1000U);
  // The parent cgroup was made without controllers.
  EXPECT_EQ(usage.memory_peak_bytes, std::nullopt);
  EXPECT_EQ(usage.pids_peak, std::nullopt);
  EXPECT_EQ(usage.oom_kills, std::nullopt);
}

TEST_F(CgroupTest, KillsByPidWhereTheKernelHasNoKillFile) {
  const ParentCgroup parent = MakeParent();
  const std::string leaf = MakeLeaf(parent, "leaf");
  ASSERT_EQ(mkdir((leaf + "/below").c_str(), 0755), 0);
  const pid_t first = ForkInto(leaf, [] {
    fork();
    return Sleep();
  });
  const pid_t second = ForkInto(leaf + "/below", Sleep);
  const absl::Status killed = KillTreeByPid(parent.fd(), "leaf", Soon());
  EXPECT_TRUE(killed.ok()) << killed;
  EXPECT_TRUE(WasKilled(first));
  EXPECT_TRUE(WasKilled(second));
}

}  // namespace
}  // namespace brood
