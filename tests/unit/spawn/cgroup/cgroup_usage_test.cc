// SPDX-License-Identifier: Apache-2.0

// What is made of a cgroup's counts.
#include "spawn/cgroup/cgroup_usage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spawn/limits/limits_met.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ParseIoStatTest, AddsUpAllDisks) {
  const IoUsage usage = ParseIoStat(
      "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=7 dios=9\n"
      "254:0 rbytes=800 wbytes=4 rios=8 wios=7 dbytes=50331648 dios=3021\n"
      "7:0\n");
  EXPECT_EQ(usage.read_bytes, 1'460'000U);
  EXPECT_EQ(usage.write_bytes, 314'773'508U);
  EXPECT_EQ(usage.read_ops, 200U);
  EXPECT_EQ(usage.write_ops, 360U);
  EXPECT_EQ(ParseIoStat("").read_bytes, 0U);
  EXPECT_EQ(ParseIoStat("8:0 rbytes=x wbytes=").write_bytes, 0U);
}

TEST(CauseOfOomTest, IsTheLimitThatCountedIt) {
  LeafUsage usage;
  EXPECT_EQ(CauseOfOom(usage), std::nullopt);
  usage.oom_events = 3;
  usage.oom_kills = 0;
  EXPECT_EQ(CauseOfOom(usage), std::nullopt) << "nobody was killed";
  usage.oom_kills = 1;
  EXPECT_EQ(CauseOfOom(usage), OomCause::kOwnLimit);
  usage.oom_events = 0;
  EXPECT_EQ(CauseOfOom(usage), OomCause::kAbove);
  usage.oom_events.reset();
  EXPECT_EQ(CauseOfOom(usage), std::nullopt) << "the kernel does not say";
}

TEST(LimitsMetTest, NothingMetIsNothingTold) {
  Outcome outcome;
  EXPECT_THAT(LimitsMet({}, outcome), IsEmpty());
  outcome.usage = {.cpu_periods = 9,
                   .cpu_throttled_periods = 0,
                   .memory_high_events = 0,
                   .oom_events = 0,
                   .oom_kills = 0,
                   .pids_refused = 0};
  EXPECT_THAT(LimitsMet({.memory_bytes = 1, .memory_high_bytes = 1, .pids = 1, .cpus = 1}, outcome),
              IsEmpty());
}

TEST(LimitsMetTest, TellsWhoseMemoryLimitItWas) {
  Outcome outcome;
  outcome.end = End::kOom;
  outcome.usage = {.oom_events = 1, .oom_kills = 2};
  EXPECT_THAT(LimitsMet({.memory_bytes = 3ULL << 29}, outcome),
              ElementsAre("its own memory limit (1.5 GiB, memory.max) was reached, and it was "
                          "killed"));
  outcome.usage.oom_events = 0;
  EXPECT_THAT(LimitsMet({.memory_bytes = 4096}, outcome),
              ElementsAre("it was killed for memory, and not by its own limit (4 KiB, memory.max): "
                          "a cgroup above it, or the machine, had none left"));
  outcome.end = End::kExited;
  EXPECT_THAT(LimitsMet({}, outcome),
              ElementsAre("processes of it were killed for memory, and not by a limit of its own: "
                          "a cgroup above it, or the machine, had none left"));
}

TEST(LimitsMetTest, TellsWhosePidsLimitItWas) {
  Outcome outcome;
  outcome.usage = {.pids_peak = 8, .pids_refused = 1};
  EXPECT_THAT(LimitsMet({.pids = 8}, outcome),
              ElementsAre("its own pids limit (8, pids.max) was reached: 1 fork refused"));
  outcome.usage.pids_refused = 70;
  EXPECT_THAT(LimitsMet({.pids = 9}, outcome),
              ElementsAre("the pids limit of a cgroup above its own was reached: 70 forks "
                          "refused"));
  outcome.usage.pids_peak.reset();  // before Linux 6.1
  EXPECT_THAT(LimitsMet({.pids = 9}, outcome),
              ElementsAre("its own pids limit (9, pids.max) was reached: 70 forks refused"));
}

TEST(LimitsMetTest, TellsWhatSlowedIt) {
  Outcome outcome;
  outcome.usage = {.cpu_periods = 40,
                   .cpu_throttled_periods = 39,
                   .cpu_throttled_us = 2'340'000,
                   .memory_high_events = 5};
  EXPECT_THAT(LimitsMet({.memory_high_bytes = 64 << 10, .cpus = 0.5}, outcome),
              ElementsAre("memory.high (64 KiB) was passed 5 times, and slowed it down",
                          "its cpu limit (0.5 cpus, cpu.max) held it back for 2.3 s, in 39 of 40 "
                          "periods"));
}

}  // namespace
}  // namespace brood
