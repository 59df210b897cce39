// SPDX-License-Identifier: Apache-2.0

// Bursts, and what their report says.
#include "pool/burst/burst.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "spawn/base/status.h"
#include "tests/kernel/machine_state.h"

namespace brood {
namespace {

class BurstTest : public LeavesNothing {
 protected:
  static BurstOptions Options(std::uint32_t count, std::uint32_t concurrency, SpawnPath path) {
    BurstOptions options;
    options.command.argv = {"/bin/true"};
    options.count = count;
    options.concurrency = concurrency;
    options.path = path;
    return options;
  }
};

TEST_F(BurstTest, EveryPathAndConcurrencyCountsEveryWorker) {
  for (const SpawnPath path : {SpawnPath::kCold, SpawnPath::kZygote, SpawnPath::kParked}) {
    for (const std::uint32_t concurrency : {0U, 1U, 8U}) {
      SCOPED_TRACE(std::string(SpawnPathName(path)) + " " + std::to_string(concurrency));
      const auto report = RunBurst(Options(40, concurrency, path));
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->failed, 0U) << report->first_failure;
      EXPECT_EQ(report->path.at(std::string(SpawnPathName(path))), 40U);
      EXPECT_FALSE(report->left_behind.any());
      EXPECT_GT(report->rate_per_s, 0);
      EXPECT_GT(report->floor_rate_per_s, 0);
      EXPECT_LE(report->latency_us.p50, report->latency_us.p99);
      EXPECT_LE(report->latency_us.p99, report->latency_us.max);
      EXPECT_EQ(report->park_us_p50 > 0, path == SpawnPath::kParked);
    }
  }
}

TEST_F(BurstTest, RefillsBeyondWhatWasParked) {
  BurstOptions options = Options(300, 16, SpawnPath::kParked);
  options.parked = 20;
  const auto report = RunBurst(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->failed, 0U) << report->first_failure;
  EXPECT_EQ(report->path.at("parked"), 300U);
}

TEST_F(BurstTest, AFailingCommandIsAFailureNotAFastRun) {
  BurstOptions options = Options(20, 4, SpawnPath::kParked);
  options.command.argv = {"/bin/false"};
  options.floor = false;
  const auto report = RunBurst(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->failed, 20U);
  EXPECT_NE(report->first_failure.find("status 1"), std::string::npos);

  options.floor = true;
  const auto compared = RunBurst(options);
  ASSERT_FALSE(compared.ok()) << "a floor that failed is nothing to compare with";
  EXPECT_NE(std::string(Message(compared.status())).find("status 1"), std::string::npos);
}

TEST_F(BurstTest, TheJsonHasWhatItPromises) {
  const auto report = RunBurst(Options(10, 2, SpawnPath::kParked));
  ASSERT_TRUE(report.ok()) << report.status();
  const nlohmann::ordered_json json = ToJson(*report);
  for (const char* pointer :
       {"/count", "/failed", "/wall_us", "/rate_per_s", "/latency_us/p50", "/latency_us/p90",
        "/latency_us/p99", "/latency_us/max", "/floor_us/p50", "/floor_us/p99", "/floor_rate_per_s",
        "/ratio_to_floor/p50", "/ratio_to_floor/p99", "/path/parked", "/park_us/p50",
        "/left_behind/processes", "/left_behind/cgroups", "/left_behind/mounts",
        "/left_behind/fds"}) {
    const nlohmann::ordered_json::json_pointer place(pointer);
    ASSERT_TRUE(json.contains(place)) << pointer << " in " << json;
    EXPECT_TRUE(json[place].is_number()) << pointer;
  }
}

}  // namespace
}  // namespace brood
