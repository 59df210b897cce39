// SPDX-License-Identifier: Apache-2.0

// Takes what Google Benchmark reports of one benchmark.
#pragma once

#include <benchmark/benchmark.h>

#include <sstream>
#include <string>
#include <vector>

namespace brood::bench {

// A reporter that prints nothing.
class Collector : public benchmark::BenchmarkReporter {
 public:
  Collector();

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;

  // The first error and the first label; empty when there was none.
  const std::string& error() const { return error_; }
  const std::string& label() const { return label_; }

 private:
  std::ostringstream text_;
  std::string error_;
  std::string label_;
};

}  // namespace brood::bench
