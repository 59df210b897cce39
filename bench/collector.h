// Takes what Google Benchmark reports: the raw JSON, and what the report needs from it.
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace brood::bench {

// A reporter that prints nothing.
class Collector : public benchmark::BenchmarkReporter {
 public:
  Collector();

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

  // By row name: the first error of any repetition, and the first label.
  const std::map<std::string, std::string>& errors() const { return errors_; }
  const std::map<std::string, std::string>& labels() const { return labels_; }

  // The library's own JSON, without the name of the host and the path of the program: results are
  // published.
  absl::StatusOr<nlohmann::ordered_json> Json() const;

 private:
  benchmark::JSONReporter json_;
  std::ostringstream text_;
  std::map<std::string, std::string> errors_;
  std::map<std::string, std::string> labels_;
};

}  // namespace brood::bench
