// SPDX-License-Identifier: Apache-2.0

// The watcher of what tests leave behind.
#include "tests/kernel/machine_state.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/cgroup_host.h"
#include "tests/kernel/cold.h"
#include "tests/needs.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

TEST(MachineStateTest, SeesDescriptorsMountsCgroupsAndChildren) {
  BROOD_NEEDS_ROOT();
  const MachineState before = MachineState::Take();
  EXPECT_EQ(MachineState::Diff(before, MachineState::Take()), "");
  {
    const UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_THAT(MachineState::Diff(before, MachineState::Take()),
                HasSubstr(fmt::format("+ fd {} -> /dev/null\n", fd.get())));
  }
  // A zombie that tells nobody of its end.
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone, 0, nullptr, nullptr, nullptr, 0));
  if (pid == 0) _exit(0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | __WALL), 0);
  EXPECT_THAT(MachineState::Diff(before, MachineState::Take()),
              HasSubstr(fmt::format("+ child {} Z ", pid)));
  ASSERT_EQ(waitpid(pid, nullptr, __WALL), pid);

  const auto host = CgroupHost::Discover();
  if (host.ok() && !host->base.empty()) {
    const std::string name = fmt::format("brood_test_{}", getpid());
    ASSERT_EQ(mkdir((host->base + "/" + name).c_str(), 0755), 0);
    EXPECT_THAT(MachineState::Diff(before, MachineState::Take()), HasSubstr("+ cgroup " + name));
    ASSERT_EQ(rmdir((host->base + "/" + name).c_str()), 0);
  }
  EXPECT_EQ(MachineState::Diff(before, MachineState::Take()), "");

  const int status = InAFork([] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return 2;
    }
    const MachineState then = MachineState::Take();
    if (mount("tmpfs", "/mnt", "tmpfs", 0, nullptr) != 0) return 3;
    const std::string diff = MachineState::Diff(then, MachineState::Take());
    return diff.starts_with("+ mount ") && diff.find("/mnt") != std::string::npos ? 0 : 4;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace brood
