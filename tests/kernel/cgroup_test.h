// SPDX-License-Identifier: Apache-2.0

// A cgroup of the test's own, and processes in it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"
#include "tests/needs_limits.h"
#include "tests/slowness.h"

namespace brood {

inline const std::chrono::milliseconds kSoon = Patience(std::chrono::seconds(5));

inline CgroupDeadline Soon() { return std::chrono::steady_clock::now() + kSoon; }

inline bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

inline Limits OnlyPids(std::uint64_t pids) {
  return {.memory_bytes = std::nullopt, .pids = pids, .cpus = std::nullopt};
}

// Runs `body` in a child; returns the pid. The child never returns from here.
inline pid_t Fork(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  return pid;
}

// As Fork, born in the cgroup `directory`.
inline pid_t ForkInto(const std::string& directory, const std::function<int()>& body) {
  const UniqueFd cgroup(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  clone_args args{};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<std::uint64_t>(cgroup.get());
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  if (pid == 0) _exit(body());
  return pid;
}

inline int Sleep() {
  while (true) pause();
}

// The wait status of a child.
inline int WaitFor(pid_t pid) {
  int status = -1;
  EXPECT_EQ(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
  return status;
}

inline int ExitCode(pid_t pid) {
  const int status = WaitFor(pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline bool WasKilled(pid_t pid) {
  const int status = WaitFor(pid);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto host = CgroupHost::Discover();
    ASSERT_TRUE(host.ok()) << host.status();
    if (host->layout == CgroupLayout::kNone) GTEST_SKIP() << "missing: a cgroup2 mount";
    if (host->base.empty()) GTEST_SKIP() << "missing: a writable cgroup2 mount";
    real_ = *host;
    host_ = *std::move(host);
    host_.base += "/brood_test_" + std::to_string(getpid());
    ASSERT_EQ(mkdir(host_.base.c_str(), 0755), 0) << ErrnoText(errno);
  }

  void TearDown() override {
    if (host_.base == real_.base) return;  // skipped
    // A test that enabled controllers leaves the launcher's leaf, empty by now.
    rmdir((host_.base + "/launcher").c_str());
    EXPECT_EQ(rmdir(host_.base.c_str()), 0) << "left behind in " << host_.base;
  }

  ParentCgroup MakeParent() {
    auto parent = ParentCgroup::Create(host_, {});
    EXPECT_TRUE(parent.ok()) << parent.status();
    return *std::move(parent);
  }

  std::string MakeLeaf(const ParentCgroup& parent, std::string_view name) {
    const auto leaf = parent.MakeLeaf(name, {});
    EXPECT_TRUE(leaf.ok()) << leaf.status();
    return parent.path() + "/" + std::string(name);
  }

  // What a launcher leaves behind that dies without a chance to clean up: a parent cgroup with a
  // leaf, and in that a process, whose pid comes back.
  pid_t LeaveParentBehind() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    const pid_t launcher = Fork([&] {
      auto parent = ParentCgroup::Create(host_, {});
      if (!parent.ok() || !parent->MakeLeaf("worker", {}).ok()) return 1;
      ForkInto(parent->path() + "/worker", [&] {
        close(parent->fd());  // as exec would: a forked copy keeps the lock
        // Told only now: whoever clears before that would take it for a living launcher's.
        const pid_t self = getpid();
        if (write(to.get(), &self, sizeof(self)) != sizeof(self)) return 1;
        return Sleep();
      });
      _exit(0);  // not by return, which would run the parent cgroup's destructor
    });
    to.reset();
    pid_t worker = -1;
    EXPECT_EQ(read(from.get(), &worker, sizeof(worker)), static_cast<ssize_t>(sizeof(worker)));
    EXPECT_EQ(ExitCode(launcher), 0);
    return worker;
  }

  CgroupHost real_;  // as discovered
  CgroupHost host_;  // with a base of this test
};

}  // namespace brood
