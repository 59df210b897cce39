// SPDX-License-Identifier: Apache-2.0

// The benchmarks' own machinery: what fails is told as failed, and a run can be stopped anywhere.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/harness/concurrent.h"
#include "bench/harness/lab.h"
#include "bench/harness/record.h"
#include "bench/harness/rounds.h"
#include "bench/harness/summary.h"
#include "bench/measures/floors.h"
#include "bench/measures/measures.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A row whose latency needs no clock.
Row FixedRow(std::string name, double us) {
  Row row;
  row.name = std::move(name);
  row.iterations = 3;
  row.warm_ups = 0;
  row.run = [us](benchmark::State& state, Samples& samples) {
    samples.MeasurePart(state, [us] { return us; });
  };
  return row;
}

Command Argv(const std::string& program) {
  Command command;
  command.argv = {program};
  return command;
}

class HarnessTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Record NewRecord(const std::vector<Row>& rows) {
    absl::StatusOr<Record> record = Record::Create(directory_, Context("c0ffee"), rows);
    EXPECT_TRUE(record.ok()) << record.status();
    return *std::move(record);
  }
  static nlohmann::ordered_json Context(const std::string& commit) {
    return {{"brood", {{"commit", commit}}}};
  }
  std::vector<std::string> Lines() const {
    std::ifstream file(directory_ / "samples.jsonl");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) / ("brood_bench_" + std::to_string(getpid()));
};

TEST_F(HarnessTest, FailingChildIsAFailureAndNeverAFigure) {
  const Command fails = Argv("/bin/false");
  const Command missing = Argv("/no/such/program");
  std::vector<Row> rows = {FixedRow("a/floor", 10)};
  rows.push_back(ExecRow("a/false", Start::kFork, fails));
  rows.push_back(ExecRow("a/false-floor", Start::kClone3Vfork, fails));
  rows.push_back(ExecRow("a/missing", Start::kClone3, missing));
  rows.push_back(ExecRow("a/missing-spawn", Start::kPosixSpawn, missing));
  Record record = NewRecord(rows);
  ASSERT_TRUE(RunRounds(rows, 2, record).ok());
  ASSERT_THAT(record.measurements(), SizeIs(10));
  for (const Measurement& one : record.measurements()) {
    if (one.row == "a/floor") {
      EXPECT_THAT(one.values.at("us"), ElementsAre(10, 10, 10));
    } else {
      EXPECT_THAT(one.values, IsEmpty()) << one.row;
      EXPECT_FALSE(one.error.empty()) << one.row;
    }
  }
  EXPECT_EQ(CountFailed(record.measurements()), 4U);
  const std::string table = DrawForTerminal(SummaryTables(rows, record.measurements()).at(0));
  EXPECT_THAT(table, HasSubstr("FAILED: the payload after fork exited with status 1"));
  EXPECT_THAT(table, HasSubstr("/no/such/program"));
}

TEST_F(HarnessTest, OneBadIterationSpoilsTheMeasurement) {
  int calls = 0;
  Row row = FixedRow("a/row", 1);
  row.run = [&](benchmark::State& state, Samples& samples) {
    samples.Measure(state, [&] {
      samples.Add("other_us", 1);
      return ++calls == 2 ? Error(absl::StatusCode::kInternal, "the second one") : absl::OkStatus();
    });
  };
  Record record = NewRecord({row});
  ASSERT_TRUE(RunRounds({row}, 1, record).ok());
  EXPECT_EQ(record.measurements().at(0).error, "the second one");
  EXPECT_THAT(record.measurements().at(0).values, IsEmpty());
}

TEST_F(HarnessTest, ImpossibleLatencyIsAnError) {
  const Row row = FixedRow("a/row", 0);
  Record record = NewRecord({row});
  ASSERT_TRUE(RunRounds({row}, 1, record).ok());
  EXPECT_THAT(record.measurements().at(0).error, HasSubstr("no time at all"));
}

TEST_F(HarnessTest, EveryRoundHasEachRowOnceAndSlowOnesSeldom) {
  std::vector<Row> rows = {FixedRow("a/floor", 10), FixedRow("a/often", 20),
                           FixedRow("a/slow", 30)};
  rows[2].every = 3;
  rows.push_back(UnavailableRow("a/never", "there is none"));
  Record record = NewRecord(rows);
  ASSERT_TRUE(RunRounds(rows, 4, record).ok());
  std::map<std::string, std::vector<int>> rounds;
  for (const Measurement& one : record.measurements()) rounds[one.row].push_back(one.round);
  EXPECT_THAT(rounds["a/floor"], ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(rounds["a/slow"], ElementsAre(0, 3));
  EXPECT_EQ(rounds.count("a/never"), 0U);
}

TEST_F(HarnessTest, StoppedRunGoesOnWhereItWas) {
  const std::vector<Row> rows = {FixedRow("a/one", 1), FixedRow("a/two", 2),
                                 FixedRow("a/three", 3)};
  {
    Record record = NewRecord(rows);
    ASSERT_TRUE(RunRounds(rows, 4, record).ok());
  }
  const std::vector<std::string> whole = Lines();
  ASSERT_THAT(whole, SizeIs(12));
  // Cut off at every place a kill could have cut it, in the middle of a line or at its end.
  for (const std::size_t keep : {0, 1, 5, 11}) {
    for (const bool half_a_line : {false, true}) {
      {
        std::ofstream file(directory_ / "samples.jsonl", std::ios::trunc);
        for (std::size_t i = 0; i < keep; ++i) file << whole[i] << '\n';
        if (half_a_line) file << whole[keep].substr(0, whole[keep].size() / 2);
      }
      absl::StatusOr<Record> record = Record::Resume(directory_, Context("c0ffee"), rows);
      ASSERT_TRUE(record.ok()) << record.status();
      ASSERT_THAT(record->measurements(), SizeIs(keep));
      ASSERT_TRUE(RunRounds(rows, 4, *record).ok());
      const std::vector<std::string> again = Lines();
      ASSERT_THAT(again, SizeIs(12));
      for (std::size_t i = 0; i < 12; ++i) {
        const auto then = nlohmann::json::parse(whole[i]);
        const auto now = nlohmann::json::parse(again[i]);
        EXPECT_EQ(now["row"], then["row"]) << "the order is the same";
        EXPECT_EQ(now["round"], then["round"]);
        EXPECT_EQ(now["values"], then["values"]);
      }
    }
  }
}

TEST_F(HarnessTest, OnlyTheSameRunIsGoneOnWith) {
  const std::vector<Row> rows = {FixedRow("a/one", 1)};
  NewRecord(rows);
  EXPECT_EQ(Record::Create(directory_, Context("c0ffee"), rows).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Record::Resume(directory_, Context("other"), rows).status().ToString(),
              HasSubstr("of another commit"));
  EXPECT_THAT(
      Record::Resume(directory_, Context("c0ffee"), {FixedRow("a/two", 1)}).status().ToString(),
      HasSubstr("of other rows"));
  EXPECT_EQ(Record::Resume(directory_ / "none", Context("c0ffee"), rows).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(HarnessTest, RatioIsTheMedianOfTheRoundsOwnRatios) {
  // The machine slows down to a third from one round to the next: each round's ratio is 2.
  std::vector<Row> rows = {FixedRow("a/floor", 1), FixedRow("a/row", 1)};
  rows[1].floor = "a/floor";
  std::vector<Measurement> measurements;
  for (int round = 0; round < 3; ++round) {
    const double slow = round == 2 ? 3 : 1;
    measurements.push_back({round, "a/floor", 0, {{"us", {10 * slow}}}, "", ""});
    measurements.push_back({round, "a/row", 0, {{"us", {20 * slow}}}, "", ""});
  }
  EXPECT_THAT(DrawForTerminal(SummaryTables(rows, measurements).at(0)), HasSubstr("×2.00"));
}

TEST_F(HarnessTest, LabIsSetUpOnceAndTellsItsErrors) {
  // Each body counts in the lab's own memory: a second process would begin anew.
  int count = 0;
  auto lab = Lab::Start([&] { return count = 100, absl::OkStatus(); },
                        [&](int, int iterations, Series& series) {
                          series["us"].push_back(++count);
                          return iterations == 13 ? Error(absl::StatusCode::kInternal, "unlucky")
                                                  : absl::OkStatus();
                        });
  ASSERT_TRUE(lab.ok()) << lab.status();
  EXPECT_THAT((*lab)->Run(0, 1)->at("us"), ElementsAre(101));
  EXPECT_THAT((*lab)->Run(0, 1)->at("us"), ElementsAre(102));
  EXPECT_EQ((*lab)->Run(0, 13).status().message(), "unlucky");
  EXPECT_THAT((*lab)->Run(0, 1)->at("us"), ElementsAre(104));
  EXPECT_EQ(count, 0) << "it is another process's";

  const auto refused = Lab::Start([] { return Error(absl::StatusCode::kUnavailable, "no room"); },
                                  [](int, int, Series&) { return absl::OkStatus(); });
  EXPECT_EQ(refused.status().message(), "no room");

  auto dies = Lab::Start(nullptr, [](int, int, Series&) -> absl::Status { _exit(3); });
  ASSERT_TRUE(dies.ok());
  EXPECT_THAT((*dies)->Run(0, 1).status().ToString(), HasSubstr("has ended by itself"));
}

TEST_F(HarnessTest, ThreadsAreMeasuredTogetherAndFailTogether) {
  std::atomic<int> made{0};
  const Row good = ConcurrentRow("a/four", 4, [&]() -> absl::StatusOr<Once> {
    ++made;
    return [] { return usleep(100) == 0 ? absl::OkStatus() : absl::InternalError("usleep"); };
  });
  const Row bad = ConcurrentRow(
      "a/bad", 4, [n = std::make_shared<std::atomic<int>>(0)]() -> absl::StatusOr<Once> {
        const bool fails = ++*n == 3;
        return
            [fails] { return fails ? absl::InternalError("the third thread") : absl::OkStatus(); };
      });
  Record record = NewRecord({good, bad});
  ASSERT_TRUE(RunRounds({good, bad}, 1, record).ok());
  for (const Measurement& one : record.measurements()) {
    if (one.row == "a/four") {
      EXPECT_THAT(one.values.at("us"), SizeIs(static_cast<std::size_t>(4 * good.iterations)));
      EXPECT_THAT(one.values.at("per_s"), SizeIs(1));
    } else {
      EXPECT_EQ(one.error, "the third thread");
    }
  }
  EXPECT_EQ(made, 4);
}

// Names are what a filter, a floor and the report go by.
TEST(MeasuresTest, NamesAreUniqueAndFloorsAreThere) {
  const bench::Setup setup{Argv("/bin/true"), Argv("/bin/true"), Argv("/bin/cat"),
                           "/bin/true",       "/nowhere",        true};
  std::vector<Row> all;
  for (const auto rows : {FloorRows, NamespaceRows, TeardownRows, CgroupRows, MountRows, FenceRows,
                          WaitRows, PathRows, LoadRows, ScaleRows}) {
    Append(all, rows(setup));
  }
  std::set<std::string> names;
  for (const Row& row : all) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name << " is there twice";
    EXPECT_GT(row.name.find('/'), 0U) << row.name;
    EXPECT_TRUE(row.unavailable.empty() == (row.run != nullptr) || row.run) << row.name;
  }
  for (const Row& row : all) {
    EXPECT_TRUE(row.floor.empty() || names.contains(row.floor)) << row.name << ": " << row.floor;
    EXPECT_NE(row.floor, row.name);
  }
}

}  // namespace
}  // namespace brood::bench
