// SPDX-License-Identifier: Apache-2.0

// brood-bench as its users run it.
#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class BenchRunTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    scratches_ = Scratches();
  }
  void TearDown() override {
    fs::remove_all(directory_);
    // Who cleans up after a killed run is no child of ours; it gets a moment.
    for (int i = 0; i < 500 * Slowness() && Scratches() > scratches_; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(Scratches(), scratches_);
    LeavesNothing::TearDown();
  }
  static std::ptrdiff_t Scratches() {
    return std::count_if(fs::directory_iterator("/var/tmp"), fs::directory_iterator(),
                         [](const fs::directory_entry& entry) {
                           return entry.path().filename().string().starts_with("brood-bench-");
                         });
  }
  std::string Samples() const { return ReadText(directory_ / "samples.jsonl"); }
  void AwaitLines(const Brood& bench, std::ptrdiff_t lines) const {
    for (;;) {
      const std::string text = Samples();
      if (std::count(text.begin(), text.end(), '\n') >= lines) return;
      ASSERT_FALSE(bench.Ended()) << bench.err();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  const fs::path directory_ =
      fs::path(::testing::TempDir()) / ("brood_bench_run_" + std::to_string(getpid()));
  std::ptrdiff_t scratches_ = 0;
};

TEST_F(BenchRunTest, WritesWhatItMeasured) {
  BROOD_NEEDS_ROOT();
  Brood bench(
      {"--out", directory_, "--rounds", "1", "--filter", "^(namespace/fresh/net|spawn/brood)"});
  EXPECT_EQ(bench.Wait(), 0) << bench.err();
  EXPECT_THAT(bench.out(), HasSubstr("written to " + directory_.string()));
  const auto rows = nlohmann::json::parse(ReadText(directory_ / "rows.json"));
  const auto context = nlohmann::json::parse(ReadText(directory_ / "context.json"));
  EXPECT_EQ(context["effort"]["rounds"], 1);
  EXPECT_TRUE(context.contains("ended"));
  std::set<std::string> measured;
  std::istringstream lines(Samples());
  for (std::string line; std::getline(lines, line);) {
    const auto one = nlohmann::json::parse(line);
    EXPECT_FALSE(one.contains("error")) << line;
    for (const double us : one["values"]["us"]) EXPECT_GT(us, 0);
    measured.insert(one["row"]);
  }
  EXPECT_EQ(measured.size(), rows["rows"].size());
  EXPECT_TRUE(measured.contains("spawn/clone3-vfork")) << "a floor comes with its rows";
  EXPECT_TRUE(measured.contains("namespace/none"));
}

TEST_F(BenchRunTest, WhatFailsIsTold) {
  Brood bench({"--out", directory_, "--rounds", "1", "--filter", "spawn/(fork|brood-parked)",
               "--payload", "/bin/false"});
  EXPECT_EQ(bench.Wait(), 1);
  EXPECT_THAT(bench.out(), HasSubstr("FAILED: the payload after fork exited with status 1"));
  EXPECT_THAT(bench.out(), HasSubstr("FAILED: the command exited with status 1"));
}

TEST_F(BenchRunTest, WrongArgumentsAreSentences) {
  struct Case {
    Words arguments;
    std::string says;
  };
  const std::vector<Case> cases = {
      {{"--filter", "("}, "is no regular expression"},
      {{"--filter", "nothing-of-this-name"}, "no row's name matches"},
      {{"--payload", "true"}, "must be an absolute path"},
      {{"--payload", "/no/such"}, "/no/such"},
      {{"--resume", "/no/such"}, "/no/such"},
  };
  for (const Case& each : cases) {
    Brood bench(each.arguments);
    EXPECT_EQ(bench.Wait(), 2) << each.arguments[1];
    EXPECT_THAT(bench.err(), HasSubstr(each.says));
  }
  EXPECT_FALSE(fs::exists(directory_));
}

// At moments of all kinds: in labs, with cgroups made, with parked workers, with a remounted
// option.
TEST_F(BenchRunTest, KilledRunLeavesNothing) {
  BROOD_NEEDS_ROOT();
  for (const char* const filter :
       {"^cgroup/", "^teardown/", "^mount/", "^wait/.*=100$", "spawn/brood-parked|spawn/burst"}) {
    fs::remove_all(directory_);
    Brood bench({"--full", "--out", directory_, "--filter", filter});
    AwaitLines(bench, 2);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    bench.Kill(SIGKILL);
    bench.Wait();
  }
}

TEST_F(BenchRunTest, StoppedRunIsGoneOnWith) {
  BROOD_NEEDS_ROOT();
  const Words rows = {"--rounds", "3", "--filter", "^namespace/(none|fresh/uts|fresh/ipc)$"};
  {
    Brood bench(Words{"--out", directory_} + rows);
    AwaitLines(bench, 2);
    bench.Kill(SIGINT);
    const int status = bench.Wait();
    if (status != 0) {  // it was not done yet
      EXPECT_EQ(status, 3);
      EXPECT_THAT(bench.err(), HasSubstr("go on with: --resume " + directory_.string()));
    }
  }
  Brood again(Words{"--resume", directory_} + rows);
  EXPECT_EQ(again.Wait(), 0) << again.err();
  const std::string text = Samples();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 9);
  Brood other({"--resume", directory_, "--rounds", "3", "--filter", "^namespace/none$"});
  EXPECT_EQ(other.Wait(), 2);
  EXPECT_THAT(other.err(), HasSubstr("is of other rows"));
}

}  // namespace
}  // namespace brood
