// SPDX-License-Identifier: Apache-2.0

// Filters as the kernel takes them.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/seccomp/seccomp.h"
#include "spawn/seccomp/seccomp_eval.h"
#include "tests/unit/spawn/seccomp/seccomp_programs.h"

namespace brood {
namespace {

TEST(InstalledDefaultFilter, RefusesAndAllows) {
  struct Case {
    const char* what;
    std::function<int()> body;
    int expected;
  };
  const Case cases[] = {
      {"getpid", [] { return ErrnoOf(SYS_getpid); }, 0},
      {"unshare", [] { return ErrnoOf(SYS_unshare, CLONE_NEWUSER); }, EPERM},
      {"keyctl", [] { return ErrnoOf(SYS_keyctl, 0, -3, 0); }, EPERM},
      {"io_uring_setup", [] { return ErrnoOf(SYS_io_uring_setup, 1, nullptr); }, EPERM},
      // Unfiltered, each of these would be EFAULT or EINVAL.
      {"bpf", [] { return ErrnoOf(SYS_bpf, 0, nullptr, 0); }, EPERM},
      {"userfaultfd", [] { return ErrnoOf(SYS_userfaultfd, ~0); }, EPERM},
      {"clone3", [] { return ErrnoOf(SYS_clone3, nullptr, 0); }, ENOSYS},
      {"clone", [] { return ErrnoOf(SYS_clone, CLONE_NEWUSER | CLONE_THREAD, 0, 0, 0, 0); }, EPERM},
      {"AF_ALG", [] { return ErrnoOf(SYS_socket, kHighBits | AF_ALG, SOCK_SEQPACKET, 0); }, EPERM},
      {"AF_UNIX", [] { return ErrnoOf(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }, 0},
      {"TIOCSTI", [] { return ErrnoOf(SYS_ioctl, -1, kHighBits | TIOCSTI, 0); }, EPERM},
      {"other ioctl", [] { return ErrnoOf(SYS_ioctl, -1, TCGETS, 0); }, EBADF},
      {"newer call", [] { return ErrnoOf(467, -1, nullptr, 0, nullptr, 0); }, ENOSYS},
  };
  const SeccompProgram program = DefaultProgram();
  for (const Case& c : cases) {
    EXPECT_EQ(UnderFilter(program.instructions, c.body), c.expected) << c.what;
  }
}

TEST(InstalledDefaultFilter, LetsProgramsForkAndExec) {
  const SeccompProgram program = DefaultProgram();
  const auto run = [](const char* path) {
    const pid_t child = fork();
    if (child == 0) {
      execl(path, path, nullptr);
      _exit(127);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 126;
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(UnderFilter(program.instructions, [&] { return run("/bin/true"); }), 0);
  EXPECT_EQ(UnderFilter(program.instructions, [&] { return run("/bin/false"); }), 1);
}

TEST(InstalledAssembledFilter, IsAcceptedByTheKernelWithLongJumps) {
  SeccompAssembler assembler;
  std::vector<SeccompAssembler::Range> ranges = {{0, assembler.Return(kAllow)}};
  for (std::uint32_t i = 1; i < 600; ++i) {
    const auto decision = assembler.Branch(BPF_JEQ, i, assembler.Return(kAllow),
                                           assembler.Return(SECCOMP_RET_ERRNO | i));
    ranges.push_back({1000 + i, assembler.Load(LowWordOfArgument(0), decision)});
  }
  const auto program =
      assembler.Assemble(assembler.Load(offsetof(seccomp_data, nr), assembler.Dispatch(ranges)));
  EXPECT_EQ(UnderFilter(program, [] { return ErrnoOf(1001, 0); }), 1);
  EXPECT_EQ(UnderFilter(program, [] { return ErrnoOf(1100, 0); }), 100);
  EXPECT_EQ(UnderFilter(program, [] { return ErrnoOf(1100, 100); }), ENOSYS);
}

}  // namespace
}  // namespace brood
