// SPDX-License-Identifier: Apache-2.0

// A process with none of the attributes that its workers are to start with.
#pragma once

#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace brood {

// Of the calling thread, and its process.
inline void TakeOddAttributes() {
  sched_param none = {};
  sched_setscheduler(0, SCHED_BATCH, &none);
  setpriority(PRIO_PROCESS, 0, 7);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  sched_setaffinity(0, sizeof(one), &one);
  syscall(SYS_ioprio_set, 1, 0, 3 << 13);
  std::ofstream("/proc/self/oom_score_adj") << 300;
  prctl(PR_SET_TIMERSLACK, 1'000'000);
  personality(ADDR_NO_RANDOMIZE);
}

// Prints them, in a line each, as the shell's own child has them.
inline constexpr char kShowAttributes[] =
    "cut -d' ' -f19,41 /proc/self/stat; cat /proc/self/oom_score_adj; cat "
    "/proc/self/timerslack_ns; "
    "cat /proc/self/personality; nproc; umask; grep -E '^Sig(Blk|Ign)' /proc/self/status";

inline std::string DefaultAttributes() {
  return "0 0\n0\n50000\n00000000\n" + std::to_string(sysconf(_SC_NPROCESSORS_ONLN)) +
         "\n0022\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
}

}  // namespace brood
