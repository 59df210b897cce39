// SPDX-License-Identifier: Apache-2.0

// Reading the texts of mountinfo and /proc/self/cgroup, and what follows from them without a
// kernel.
#include "spawn/host/cgroup_host.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kRootLine = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";

struct HostCase {
  std::string_view name;
  std::string mountinfo;
  std::string self_cgroup;
  CgroupLayout layout;
  std::string_view point;  // of the preferred mount
  std::string_view own;
};
void PrintTo(const HostCase& test, std::ostream* out) { *out << test.name; }

class ParseCgroupMountsTest : public ::testing::TestWithParam<HostCase> {};

TEST_P(ParseCgroupMountsTest, FindsTheMountAndOurOwnCgroup) {
  const HostCase& test = GetParam();
  const CgroupMounts mounts =
      ParseCgroupMounts(std::string(kRootLine) + test.mountinfo, test.self_cgroup);
  EXPECT_EQ(mounts.layout(), test.layout);
  if (test.layout == CgroupLayout::kNone) {
    EXPECT_THAT(mounts.v2, IsEmpty());
    return;
  }
  ASSERT_FALSE(mounts.v2.empty());
  EXPECT_EQ(mounts.v2.front().point, test.point);
  EXPECT_EQ(mounts.v2.front().own, test.own);
}

INSTANTIATE_TEST_SUITE_P(
    Hosts, ParseCgroupMountsTest,
    ::testing::Values(
        HostCase{"Unified",
                 "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 "
                 "rw,nsdelegate,memory_recursiveprot\n",
                 "0::/user.slice/user-1000.slice/session-1.scope\n", CgroupLayout::kUnified,
                 "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope"},
        HostCase{"UnifiedAtTheTop", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                 "0::/\n", CgroupLayout::kUnified, "/sys/fs/cgroup", "/sys/fs/cgroup"},
        HostCase{"Hybrid",
                 "34 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                 "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                 "4:memory:/jobs/7\n0::/init.scope\n", CgroupLayout::kHybrid,
                 "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/init.scope"},
        HostCase{"OnlyV1", "34 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
                 "4:memory:/jobs/7\n", CgroupLayout::kNone, "", ""},
        HostCase{"Nothing", "", "", CgroupLayout::kNone, "", ""},
        HostCase{"BoundSubtree",
                 "99 24 0:30 /docker/abc /sys/fs/cgroup rw master:9 - cgroup2 cgroup rw\n",
                 "0::/docker/abc/worker\n", CgroupLayout::kUnified, "/sys/fs/cgroup",
                 "/sys/fs/cgroup/worker"},
        HostCase{"BoundSubtreeIsOurs", "99 24 0:30 /docker/abc /cg rw - cgroup2 cgroup rw\n",
                 "0::/docker/abc\n", CgroupLayout::kUnified, "/cg", "/cg"},
        HostCase{"BoundSubtreeOfAnotherWithOurPrefix",
                 "99 24 0:30 /docker/ab /cg rw - cgroup2 cgroup rw\n", "0::/docker/abc\n",
                 CgroupLayout::kUnified, "/cg", ""},
        HostCase{"MountFromOutsideOurNamespace", "99 24 0:30 /.. /cg rw - cgroup2 cgroup rw\n",
                 "0::/\n", CgroupLayout::kUnified, "/cg", ""},
        HostCase{"OwnOutsideOurNamespace", "99 24 0:30 / /cg rw - cgroup2 cgroup rw\n",
                 "0::/../other\n", CgroupLayout::kUnified, "/cg", ""},
        HostCase{"EscapedMountPoint", "99 24 0:30 / /mnt/my\\040cg\\134x rw - cgroup2 cgroup rw\n",
                 "0::/a b\n", CgroupLayout::kUnified, "/mnt/my cg\\x", "/mnt/my cg\\x/a b"},
        HostCase{"SeveralPrefersTheOneThatShowsUs",
                 "50 24 0:30 /other /first rw - cgroup2 cgroup rw\n"
                 "51 24 0:30 / /second rw - cgroup2 cgroup rw\n",
                 "0::/own\n", CgroupLayout::kUnified, "/second", "/second/own"},
        HostCase{"SeveralPrefersTheWritable",
                 "50 24 0:30 / /first ro - cgroup2 cgroup rw\n"
                 "51 24 0:30 / /second rw - cgroup2 cgroup rw\n",
                 "0::/own\n", CgroupLayout::kUnified, "/second", "/second/own"},
        HostCase{"SeveralPrefersTheWhole",
                 "50 24 0:30 /own /first rw - cgroup2 cgroup rw\n"
                 "51 24 0:30 / /second rw - cgroup2 cgroup rw\n",
                 "0::/own\n", CgroupLayout::kUnified, "/second", "/second/own"},
        HostCase{"SeveralOnOneDirectoryLastCovers",
                 "50 24 0:30 / /cg rw - cgroup2 cgroup rw\n"
                 "51 50 0:30 /own /cg rw - cgroup2 cgroup rw\n",
                 "0::/own\n", CgroupLayout::kUnified, "/cg", "/cg"},
        HostCase{"BrokenLinesAreSkipped",
                 "garbage\n1 2 3\n50 24 0:30 / /cg rw - cgroup2\n"
                 "51 24 0:30 / /good rw - cgroup2 cgroup rw",
                 "0::/", CgroupLayout::kUnified, "/good", "/good"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ParseCgroupMountsTest, NamesTheV1HierarchyOfEachController) {
  const CgroupMounts mounts = ParseCgroupMounts(
      "31 30 0:28 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
      "36 30 0:33 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
      "");
  EXPECT_TRUE(mounts.any_v1);
  ASSERT_EQ(mounts.v1.size(), 2U);
  EXPECT_EQ(mounts.v1[0].name, "cpu");
  EXPECT_EQ(mounts.v1[1].name, "cpuacct");
  EXPECT_EQ(mounts.v1[1].mount, "/cg/cpu,cpuacct");
}

TEST(ParseCgroupMountsTest, SeesFavordynmods) {
  const auto favors = [](std::string_view options) {
    const std::string line = fmt::format("35 24 0:30 / /cg rw - cgroup2 cgroup {}\n", options);
    return ParseCgroupMounts(line, "0::/\n").v2.at(0).favordynmods;
  };
  EXPECT_TRUE(favors("rw,nsdelegate,favordynmods"));
  EXPECT_FALSE(favors("rw,nsdelegate"));
}

TEST(CgroupLayoutTest, HasStableNames) {
  EXPECT_EQ(CgroupLayoutName(CgroupLayout::kNone), "none");
  EXPECT_EQ(CgroupLayoutName(CgroupLayout::kHybrid), "hybrid");
  EXPECT_EQ(CgroupLayoutName(CgroupLayout::kUnified), "unified");
}

TEST(ControllersForTest, NamesOnlyWhatIsNeeded) {
  EXPECT_THAT(ControllersFor({}), IsEmpty());
  EXPECT_THAT(ControllersFor({.memory_bytes = 1 << 20, .pids = 3, .cpus = 0.5}),
              ElementsAre("memory", "pids", "cpu"));
  EXPECT_THAT(ControllersFor({.memory_bytes = {}, .pids = 3, .cpus = {}}), ElementsAre("pids"));
  EXPECT_THAT(ControllersFor({.memory_high_bytes = 1}), ElementsAre("memory"));
  EXPECT_THAT(ControllersFor({.swap_bytes = 0}), ElementsAre("memory"));
  EXPECT_THAT(ControllersFor({.cpu_weight = 1, .io_weight = 1, .cpuset_mems = "0"}),
              ElementsAre("cpu", "io", "cpuset"));
  EXPECT_THAT(ControllersFor({.io = {{.major = 8, .read_ops = 1}}, .cpuset_cpus = "0"}),
              ElementsAre("io", "cpuset"));
}

TEST(LimitsToBeHadTest, NeedWhatTheHostHas) {
  CgroupHost host;
  EXPECT_FALSE(LimitsToBeHad(host).any());
  host.controllers = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"};
  EXPECT_THAT(ControllersFor(LimitsToBeHad(host)),
              ElementsAre("memory", "pids", "cpu", "io", "cpuset"));
  host.controllers = {"io"};
  EXPECT_THAT(ControllersFor(LimitsToBeHad(host)), ElementsAre("io"));
}

TEST(CheckControllersTest, SaysWhereAMissingControllerIsAndWhatToDo) {
  CgroupHost host;
  host.mount = "/sys/fs/cgroup/unified";
  host.base = "/sys/fs/cgroup/unified/app";
  host.controllers = {"pids"};
  host.v1 = {{"memory", "/sys/fs/cgroup/memory"}};
  EXPECT_TRUE(CheckControllers(host, {}).ok());
  EXPECT_TRUE(CheckControllers(host, {.memory_bytes = {}, .pids = 3, .cpus = {}}).ok());

  const absl::Status memory =
      CheckControllers(host, {.memory_bytes = 1 << 20, .pids = {}, .cpus = {}});
  EXPECT_TRUE(absl::IsFailedPrecondition(memory));
  EXPECT_THAT(std::string(Message(memory)),
              HasSubstr("limiting memory: the memory controller is on the v1 hierarchy "
                        "/sys/fs/cgroup/memory"));
  EXPECT_THAT(std::string(Message(memory)), HasSubstr("cgroup_no_v1=memory"));

  const absl::Status cpu = CheckControllers(host, {.memory_bytes = {}, .pids = {}, .cpus = 1});
  EXPECT_TRUE(absl::IsFailedPrecondition(cpu));
  EXPECT_THAT(std::string(Message(cpu)),
              HasSubstr("/sys/fs/cgroup/unified/app does not have the cpu controller (it has: "
                        "pids)"));
}

}  // namespace
}  // namespace brood
