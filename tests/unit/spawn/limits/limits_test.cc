// SPDX-License-Identifier: Apache-2.0

// One errno, several limits: which one it was is told from a machine made of files.
#include "spawn/limits/limits.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "spawn/base/kernel.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class LimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/brood-limits-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    Write("proc/loadavg", "0.1 0.2 0.3 1/150 4711\n");
    Write("proc/sys/kernel/threads-max", "1000\n");
    Write("proc/sys/kernel/pid_max", "4000\n");
    Write("proc/self/cgroup", "8:pids:/a/b\n0::/u\n");
    Write("proc/self/uid_map", "0 0 4294967295\n");
    Write("proc/self/status", "NSpid:\t7\n");
    Write("proc/self/mountinfo", "39 31 0:36 / " + root_ +
                                     "/pids rw - cgroup cgroup rw,pids\n41 31 0:38 / " + root_ +
                                     "/v2 rw - cgroup2 cgroup2 rw\n");
    Write("pids/a/pids.max", "max\n");
    Write("pids/a/b/pids.max", "50\n");
    Write("pids/a/b/pids.current", "3\n");
    Write("v2/u/pids.max", "60\n");
    Write("v2/u/pids.current", "4\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + path).parent_path());
    std::ofstream(root_ + "/" + path) << text;
  }
  LimitReading First(LimitQuestion question) {
    question.proc = root_ + "/proc";
    const std::vector<LimitReading> limits = LimitsBehind(question);
    return limits.empty() ? LimitReading{.name = "none"} : limits.front();
  }

  std::string root_;
};

TEST_F(LimitsTest, TooManyProcessesIsToldApart) {
  struct Case {
    const char* file;
    const char* text;
    const char* limit;
    const char* where;
  };
  const Case cases[] = {
      {"pids/a/b/pids.current", "50\n", "pids.max", "/pids/a/b/pids.max"},
      {"v2/u/pids.current", "60\n", "pids.max", "/v2/u/pids.max"},
      {"proc/sys/kernel/threads-max", "150\n", "kernel.threads-max", "threads-max"},
      // 300 numbers are never given out again.
      {"proc/sys/kernel/pid_max", "450\n", "kernel.pid_max", "pid_max"},
  };
  const LimitQuestion question{.call = LimitedCall::kClone, .error = EAGAIN};
  EXPECT_FALSE(First(question).Full());
  for (const Case& test : cases) {
    SetUp();
    Write(test.file, test.text);
    const LimitReading first = First(question);
    EXPECT_EQ(first.name, test.limit);
    EXPECT_THAT(first.where, HasSubstr(test.where));
    EXPECT_TRUE(first.Full());
    std::filesystem::remove_all(root_);
  }
}

TEST_F(LimitsTest, AnAncestorsPidsMaxCounts) {
  Write("pids/a/pids.max", "9\n");
  Write("pids/a/pids.current", "9\n");
  const LimitReading first = First({.call = LimitedCall::kClone, .error = EAGAIN});
  EXPECT_EQ(first.where, root_ + "/pids/a/pids.max");
  EXPECT_THAT(LimitSentence({first}), HasSubstr("pids.max is used up (9 of 9, "));
  EXPECT_THAT(LimitSentence({first}), HasSubstr("echo max > " + root_ + "/pids/a/pids.max"));
}

TEST_F(LimitsTest, CountAndDepthOfNamespacesAreToldApart) {
  Write("proc/sys/user/max_user_namespaces", "20\n");
  Write("proc/sys/user/max_pid_namespaces", "20\n");
  LimitQuestion question{.call = LimitedCall::kUnshare,
                         .error = ENOSPC,
                         .namespaces = kernel::kCloneNewUser,
                         .made = 20,
                         .depth = 20};
  EXPECT_EQ(First(question).name, "user.max_user_namespaces");
  question.made = 5;
  question.depth = 33;
  EXPECT_EQ(First(question).name, "user namespace depth");
  std::string numbers = "NSpid:";
  for (int i = 0; i < 33; ++i) numbers += "\t1";
  Write("proc/self/status", numbers + "\n");
  question.namespaces = kernel::kCloneNewPid;
  question.depth.reset();
  EXPECT_EQ(First(question).name, "pid namespace depth");
}

TEST_F(LimitsTest, CgroupsCountAndDepthAreToldApart) {
  Write("cg/cgroup.stat", "nr_descendants 2\nnr_dying_descendants 0\n");
  Write("cg/cgroup.max.descendants", "2\n");
  Write("cg/cgroup.max.depth", "max\n");
  Write("cg/x/cgroup.stat", "nr_descendants 0\n");
  Write("cg/x/cgroup.max.descendants", "max\n");
  Write("cg/x/cgroup.max.depth", "max\n");
  LimitQuestion question{
      .call = LimitedCall::kMakeCgroup, .error = EAGAIN, .cgroup = root_ + "/cg/x"};
  EXPECT_EQ(First(question).name, "cgroup.max.descendants");
  EXPECT_EQ(First(question).where, root_ + "/cg/cgroup.max.descendants");
  Write("cg/cgroup.max.descendants", "9\n");
  Write("cg/cgroup.max.depth", "1\n");
  EXPECT_EQ(First(question).where, root_ + "/cg/cgroup.max.depth");
  EXPECT_TRUE(First(question).Full());
}

TEST_F(LimitsTest, OtherErrorsSpeakOfOtherLimits) {
  Write("proc/sys/fs/mount-max", "2\n");
  EXPECT_TRUE(First({.call = LimitedCall::kMount, .error = ENOSPC}).Full());
  EXPECT_EQ(First({.call = LimitedCall::kOpen, .error = ENFILE}).name, "fs.file-max");
  EXPECT_EQ(First({.call = LimitedCall::kOpen, .error = EMFILE}).name, "RLIMIT_NOFILE");
  EXPECT_EQ(First({.call = LimitedCall::kClone, .error = ENOMEM}).name, "memory");
  Write("proc/sys/kernel/io_uring_disabled", "2\n");
  EXPECT_EQ(First({.call = LimitedCall::kRing, .error = EPERM}).name, "kernel.io_uring_disabled");
  Write("proc/sys/kernel/io_uring_disabled", "0\n");
  EXPECT_EQ(First({.call = LimitedCall::kRing, .error = EPERM}).name, "none");
  EXPECT_EQ(First({.call = LimitedCall::kClone, .error = EINVAL}).name, "none");
  EXPECT_EQ(LimitSentence({}), "");
}

// By a trial, since the kernel shows no count.
TEST(LimitsTrialTest, RefusedKindIsFoundByTrying) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (unshare(CLONE_NEWUSER) != 0) _exit(77);
    std::ofstream("/proc/sys/user/max_net_namespaces") << 1 << std::flush;
    if (unshare(CLONE_NEWNET) != 0) _exit(77);
    const auto limits = LimitsBehind({.call = LimitedCall::kUnshare,
                                      .error = ENOSPC,
                                      .namespaces = CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC});
    const bool right = limits.size() == 3 && limits[0].name == "user.max_net_namespaces" &&
                       limits[0].Full() && !limits[1].Full();
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no user namespace can be made here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(LimitsJitTest, NoRoomForACompiledFilterIsNamed) {
  constexpr int kEnotsupp = 524;
  const auto limits = LimitsBehind({.call = LimitedCall::kSeccomp, .error = kEnotsupp});
  ASSERT_EQ(limits.size(), 1U);
  EXPECT_EQ(limits[0].name, "net.core.bpf_jit_limit");
  EXPECT_TRUE(limits[0].Full());
  EXPECT_NE(LimitSentence(limits).find("sysctl -w net.core.bpf_jit_limit="), std::string::npos);
  EXPECT_NE(ErrnoText(kEnotsupp).find("ENOTSUPP"), std::string::npos);
}

}  // namespace
}  // namespace brood
