// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/own_attributes.h"

#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string_view>

namespace brood {
namespace {

constexpr std::string_view kDefaults[kAttributeCount] = {"the scheduling class SCHED_OTHER",
                                                         "nice 0",
                                                         "every processor of the cpuset",
                                                         "the default I/O priority",
                                                         "oom_score_adj 0",
                                                         "a timer slack of 50 us",
                                                         "the personality PER_LINUX",
                                                         "the default memory policy"};

bool FewerProcessors() {
  // Larger than any machine: one with more processors than a cpu_set_t is refused with EINVAL.
  cpu_set_t sets[16];
  if (sched_getaffinity(0, sizeof(sets), sets) != 0) return true;
  return CPU_COUNT_S(sizeof(sets), sets) < get_nprocs();
}

}  // namespace

bool HasOomScore() {
  std::ifstream file("/proc/self/oom_score_adj");
  int score = 0;
  return file >> score && score != 0;
}

std::uint32_t OddAttributes() {
  std::uint32_t odd = 0;
  const auto note = [&](Attribute attribute, bool is_odd) {
    if (is_odd) odd |= Bit(attribute);
  };
  note(Attribute::kScheduler, sched_getscheduler(0) != SCHED_OTHER);
  errno = 0;
  note(Attribute::kNice, getpriority(PRIO_PROCESS, 0) != 0);
  note(Attribute::kAffinity, FewerProcessors());
  note(Attribute::kIoPriority, syscall(SYS_ioprio_get, 1, 0) > 0);
  note(Attribute::kOomScore, HasOomScore());
  note(Attribute::kTimerSlack, prctl(PR_GET_TIMERSLACK) != 50'000);
  note(Attribute::kPersonality, personality(0xffffffff) != PER_LINUX);
  int mode = 0;
  note(Attribute::kMemoryPolicy,
       syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0 && mode != 0);
  return odd;
}

std::vector<Fallback> KeptAttributes(const AttributeErrors& errors) {
  std::vector<Fallback> kept;
  for (std::size_t i = 0; i < kAttributeCount; ++i) {
    if (errors.error[i] == 0) continue;
    kept.push_back({std::string(kDefaults[i]), "what its launcher has", errors.error[i]});
  }
  return kept;
}

}  // namespace brood
