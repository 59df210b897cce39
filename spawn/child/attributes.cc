// SPDX-License-Identifier: Apache-2.0

#include "spawn/child/attributes.h"

#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>

namespace brood {
namespace {

// Writes 0 into the oom_score_adj of `pid`; 0: of the caller.
sys::Result ResetOomScore(sys::Result pid, int proc_fd) {
  char path[40];
  char* end = path;
  const auto add = [&](const char* text) {
    while (*text != '\0') *end++ = *text++;
  };
  if (pid == 0) {
    add("self");
  } else {
    char digits[20];
    int count = 0;
    for (sys::Result rest = pid; rest > 0; rest /= 10) {
      digits[count++] = static_cast<char>('0' + rest % 10);
    }
    while (count > 0) *end++ = digits[--count];
  }
  add("/oom_score_adj");
  *end = '\0';
  const sys::Result fd = sys::OpenAt(proc_fd, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const sys::Result written = sys::Write(static_cast<int>(fd), "0", 1);
  sys::Close(static_cast<int>(fd));
  return written;
}

sys::Result Reset(Attribute attribute, sys::Result pid, int proc_fd) {
  constexpr int kProcess = 0;    // PRIO_PROCESS
  constexpr int kIoProcess = 1;  // IOPRIO_WHO_PROCESS
  switch (attribute) {
    case Attribute::kScheduler: {
      const int priority = 0;  // struct sched_param
      return sys::Call(__NR_sched_setscheduler, pid, /*SCHED_OTHER*/ 0, sys::Arg(&priority));
    }
    case Attribute::kNice:
      return sys::Call(__NR_setpriority, kProcess, pid, 0);
    case Attribute::kAffinity: {
      // The kernel leaves out what the machine or the cpuset does not have.
      unsigned long all[128];
      for (unsigned long& word : all) word = ~0UL;
      return sys::Call(__NR_sched_setaffinity, pid, sizeof(all), sys::Arg(all));
    }
    case Attribute::kIoPriority:
      return sys::Call(__NR_ioprio_set, kIoProcess, pid, 0);
    case Attribute::kOomScore:
      return ResetOomScore(pid, proc_fd);
    case Attribute::kTimerSlack:
      return sys::Prctl(PR_SET_TIMERSLACK, 50'000);
    case Attribute::kPersonality:
      return sys::Call(__NR_personality, 0);
    case Attribute::kMemoryPolicy: {
      const sys::Result set = sys::Call(__NR_set_mempolicy, /*MPOL_DEFAULT*/ 0, 0, 0);
      return set == -ENOSYS ? 0 : set;  // no NUMA here
    }
    case Attribute::kCount:
      break;
  }
  return 0;
}

}  // namespace

void ResetAttributes(std::uint32_t which, sys::Result pid, int proc_fd, AttributeErrors& errors) {
  for (std::size_t i = 0; i < kAttributeCount; ++i) {
    const auto attribute = static_cast<Attribute>(i);
    if ((which & Bit(attribute)) == 0) continue;
    const sys::Result result = Reset(attribute, pid, proc_fd);
    errors.error[i] = static_cast<std::int16_t>(result < 0 ? -result : 0);
  }
}

}  // namespace brood
