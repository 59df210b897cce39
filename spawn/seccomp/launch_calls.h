// SPDX-License-Identifier: Apache-2.0

// What child code calls from the installation of its filter on until its command runs: the rest of
// WorkerMain and Launch (spawn/child/child.cc), and what they use. A call that is added there is
// added here, and a test launches workers under a filter that allows exactly these.
#pragma once

#include <asm/ioctls.h>
#include <asm/unistd.h>

#include <cstdint>

namespace brood {

// A call, with the one argument that is always the same where a filter may well look at it.
struct LaunchCall {
  std::uint32_t number;
  std::int32_t argument = -1;  // its index; -1: whatever the arguments
  std::uint32_t value = 0;
};

inline constexpr LaunchCall kLaunchCalls[] = {
    // Parking, and being told to go on.
    {__NR_clock_gettime},
    {__NR_write},
    {__NR_futex},
    // The launch's descriptors, its terminal or its endpoint.
    {__NR_recvmsg},
    {__NR_openat},
    {__NR_openat2},
    {__NR_ioctl, 1, TIOCSPTLCK},
    {__NR_ioctl, 1, TIOCGPTPEER},
    {__NR_ioctl, 1, TIOCSWINSZ},
    {__NR_ioctl, 1, TIOCSCTTY},
    {__NR_socket, 0, 2 /* AF_INET */},
    {__NR_bind},
    {__NR_listen},
    {__NR_sendmsg},
    {__NR_read},
    {__NR_close},
    {__NR_fcntl},
    {__NR_dup3},
    {__NR_close_range},
    // What the command starts with.
    {__NR_chdir},
    {__NR_fchdir},
    {__NR_umask},
    {__NR_prctl},
    {__NR_rt_sigaction},
    {__NR_rt_sigprocmask},
    {__NR_execve},
    {__NR_execveat},
    // Having failed.
    {__NR_exit},
    {__NR_exit_group},
};

}  // namespace brood
