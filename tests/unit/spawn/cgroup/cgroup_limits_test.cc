// SPDX-License-Identifier: Apache-2.0

// The texts of limits, and that each goes to its file.
#include "spawn/cgroup/cgroup_limits.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

#include "spawn/base/cpu_text.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup_tree.h"

namespace brood {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CpuMaxTextTest, RoundsToMicrosecondsAndLengthensThePeriodOfSmallShares) {
  EXPECT_EQ(CpuMaxText(1).value(), "100000 100000");
  EXPECT_EQ(CpuMaxText(2.5).value(), "250000 100000");
  EXPECT_EQ(CpuMaxText(1.0 / 3).value(), "33333 100000");
  EXPECT_EQ(CpuMaxText(0.01).value(), "1000 100000");
  EXPECT_EQ(CpuMaxText(0.005).value(), "5000 1000000");
  EXPECT_EQ(CpuMaxText(0.001).value(), "1000 1000000");
}

TEST(CpuMaxTextTest, RefusesWhatTheKernelWould) {
  for (const double cpus : {0.0, -1.0, 0.0009, 1e7, std::numeric_limits<double>::infinity(),
                            std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CpuMaxText(cpus).status())) << cpus;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(CpuMaxText(1, 999).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(CpuMaxText(1, 1'000'001).status()));
  const absl::Status short_quota = CpuMaxText(0.05, 10'000).status();
  EXPECT_THAT(std::string(Message(short_quota)), HasSubstr("use a longer period"));
}

TEST(CpuMaxTextTest, KeepsAPeriodOfItsOwn) {
  EXPECT_EQ(CpuMaxText(0.5, 10'000).value(), "5000 10000");
  EXPECT_EQ(CpuMaxText(2, 1'000'000).value(), "2000000 1000000");
  EXPECT_EQ(CpuMaxText(1, 1'000).value(), "1000 1000");
}

TEST(IoMaxTextTest, NamesOnlyWhatIsLimited) {
  EXPECT_EQ(IoMaxText({.major = 8, .minor = 16, .read_bytes = 1 << 20, .write_ops = 120}),
            "8:16 rbps=1048576 wiops=120");
  EXPECT_EQ(IoMaxText({.major = 259, .write_bytes = 2, .read_ops = 3}), "259:0 wbps=2 riops=3");
}

TEST(ParseCpuListTest, TakesNumbersAndRanges) {
  EXPECT_THAT(ParseCpuList("0").value(), ElementsAre(0));
  EXPECT_THAT(ParseCpuList("7,0-3,2").value(), ElementsAre(0, 1, 2, 3, 7));
  EXPECT_EQ(ParseCpuList("0-65535")->size(), 65'536U);
}

TEST(ParseCpuListTest, RefusesEverythingElse) {
  for (const std::string_view text :
       {"", ",", "0,", ",0", "-1", "1-", "3-1", "a", "0 1", "0-3:2", "65536", "0-4294967296", "1\n",
        "all", "0--1", "0-70000,0-70000"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseCpuList(text).status())) << text;
  }
  std::string many = "0-65535";
  for (int i = 0; i < 3; ++i) many += ",0-65535";
  EXPECT_FALSE(ParseCpuList(many).ok()) << "a client must not make the daemon sort a million";
}

// A directory with the files of a leaf: what is written can be read back without any controller.
class WriteLimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs::create_directories(root_ / "leaf"));
    auto fd = OpenDirectoryAt(AT_FDCWD, root_.c_str());
    ASSERT_TRUE(fd.ok()) << fd.status();
    parent_ = *std::move(fd);
  }
  void TearDown() override { fs::remove_all(root_); }

  void AddFile(std::string_view name) { std::ofstream(root_ / "leaf" / name); }

  std::string Content(std::string_view name) {
    std::string text;
    EXPECT_EQ(ReadFileAt(parent_.get(), fmt::format("leaf/{}", name).c_str(), text), 0) << name;
    return text;
  }

  const fs::path root_ =
      fs::path(::testing::TempDir()) / fmt::format("brood_write_limits_{}", getpid());
  UniqueFd parent_;
};

TEST_F(WriteLimitsTest, WritesEachLimitToItsFile) {
  for (const std::string_view name :
       {"memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"}) {
    AddFile(name);
  }
  const absl::Status status =
      WriteLimits(parent_.get(), "leaf", {.memory_bytes = 64 << 20, .pids = 8, .cpus = 0.5});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(Content("memory.max"), "67108864");
  EXPECT_EQ(Content("memory.swap.max"), "0");
  EXPECT_EQ(Content("memory.oom.group"), "1");
  EXPECT_EQ(Content("pids.max"), "8");
  EXPECT_EQ(Content("cpu.max"), "50000 100000");
}

TEST_F(WriteLimitsTest, WritesTheLimitsThatSlow) {
  for (const std::string_view name :
       {"memory.high", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.weight", "io.max",
        "io.weight", "cpuset.cpus", "cpuset.mems"}) {
    AddFile(name);
  }
  // As the kernel would tell what is in effect.
  std::ofstream(root_ / "leaf" / "cpuset.cpus.effective") << "0-1,3\n";
  std::ofstream(root_ / "leaf" / "cpuset.mems.effective") << "0\n";
  const absl::Status status = WriteLimits(parent_.get(), "leaf",
                                          {.memory_high_bytes = 4096,
                                           .swap_bytes = 8192,
                                           .cpus = 0.5,
                                           .cpu_period_us = 20'000,
                                           .cpu_weight = 50,
                                           .io = {{.major = 8, .read_bytes = 1000}},
                                           .io_weight = 200,
                                           .cpuset_cpus = "3,0-1",
                                           .cpuset_mems = "0"});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(Content("memory.high"), "4096");
  EXPECT_EQ(Content("memory.swap.max"), "8192");
  EXPECT_EQ(Content("memory.oom.group"), "1");
  EXPECT_EQ(Content("cpu.max"), "10000 20000");
  EXPECT_EQ(Content("cpu.weight"), "50");
  EXPECT_EQ(Content("io.max"), "8:0 rbps=1000");
  EXPECT_EQ(Content("io.weight"), "200");
  EXPECT_EQ(Content("cpuset.cpus"), "3,0-1");
  EXPECT_EQ(Content("cpuset.mems"), "0");
}

TEST_F(WriteLimitsTest, CpusThatAreNotAllToBeHadAreAnError) {
  AddFile("cpuset.cpus");
  std::ofstream(root_ / "leaf" / "cpuset.cpus.effective") << "0-1\n";
  const absl::Status status = WriteLimits(parent_.get(), "leaf", {.cpuset_cpus = "1-2"});
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("cpuset.cpus 1-2: of these it would have 0-1"));
}

TEST_F(WriteLimitsTest, SwapThatIsAskedForNeedsTheFile) {
  AddFile("memory.max");
  AddFile("memory.oom.group");
  const absl::Status status =
      WriteLimits(parent_.get(), "leaf", {.memory_bytes = 4096, .swap_bytes = 1});
  EXPECT_THAT(std::string(Message(status)), HasSubstr("memory.swap.max"));
}

TEST_F(WriteLimitsTest, AFileThatTheKernelLacksIsToldFromAControllerThatIsOff) {
  std::ofstream(root_ / "leaf" / "cgroup.controllers") << "cpu io\n";
  const absl::Status lacks = WriteLimits(parent_.get(), "leaf", {.io_weight = 100});
  EXPECT_THAT(std::string(Message(lacks)), HasSubstr("this kernel has no io.weight"));
  const absl::Status off = WriteLimits(parent_.get(), "leaf", {.pids = 1});
  EXPECT_THAT(std::string(Message(off)), HasSubstr("its parent cgroup was not made for"));
}

TEST_F(WriteLimitsTest, DoesWithoutSwapAccounting) {
  AddFile("memory.max");
  AddFile("memory.oom.group");
  const absl::Status status =
      WriteLimits(parent_.get(), "leaf", {.memory_bytes = 4096, .pids = {}, .cpus = {}});
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(WriteLimitsTest, TouchesNothingWithoutLimits) {
  EXPECT_TRUE(WriteLimits(parent_.get(), "leaf", {}).ok());
}

TEST_F(WriteLimitsTest, NamesTheFileThatIsMissing) {
  const absl::Status status =
      WriteLimits(parent_.get(), "leaf", {.memory_bytes = {}, .pids = 8, .cpus = {}});
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(Message(status)), HasSubstr("pids.max"));
}

}  // namespace
}  // namespace brood
