// SPDX-License-Identifier: Apache-2.0

// The files of one run, written while it goes on, so that a run can be stopped and taken up again:
//
//   context.json    the machine, the kernel, the build, and how much was measured
//   rows.json       what is measured: names, floors, parameters, notes, and why a row cannot run
//   samples.jsonl   one line for each measurement of a row in a round, appended when it is done:
//                   {"round":0, "row":"namespace/fresh/net", "at_s":12.5,
//                    "values":{"us":[...]}, "label":"...", "error":"..."}
//                   values, label and error are there when there are any; at_s is since the run
//                   began.
//
// bench/report makes summary.md, the charts and report.html from these, and from nothing else.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/harness/row.h"

namespace brood::bench {

struct Measurement {
  int round = 0;
  std::string row;
  double at_s = 0;
  Series values;
  std::string label;
  std::string error;
};

// Owns samples.jsonl. Not thread-safe.
class Record {
 public:
  // A new run in `directory`, which is made. kAlreadyExists when one is in it.
  static absl::StatusOr<Record> Create(const std::filesystem::path& directory,
                                       const nlohmann::ordered_json& context,
                                       const std::vector<Row>& rows);

  // Takes a stopped run up again. Its rows must be `rows`, and its commit that of `context`: else
  // two things would be told as one, and it is kFailedPrecondition. A line that a killed run left
  // half written is dropped.
  static absl::StatusOr<Record> Resume(const std::filesystem::path& directory,
                                       const nlohmann::ordered_json& context,
                                       const std::vector<Row>& rows);

  // On disk when it returns.
  absl::Status Append(Measurement measurement);

  bool Has(int round, const std::string& row) const { return done_.contains({round, row}); }
  const std::vector<Measurement>& measurements() const { return measurements_; }
  const std::filesystem::path& directory() const { return directory_; }

  // Writes context.json again, as when the run has ended.
  absl::Status WriteContext(const nlohmann::ordered_json& context) const;

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  explicit Record(std::filesystem::path directory) : directory_(std::move(directory)) {}
  absl::Status OpenSamples();
  absl::Status ReadSamples();

  std::filesystem::path directory_;
  std::unique_ptr<std::FILE, Closer> samples_;
  std::vector<Measurement> measurements_;
  std::set<std::pair<int, std::string>> done_;
};

}  // namespace brood::bench
