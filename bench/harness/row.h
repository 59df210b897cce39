// SPDX-License-Identifier: Apache-2.0

// One row of a report: a benchmark, or the reason why it cannot run here.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "bench/harness/samples.h"

namespace brood::bench {

// A plain value, but for what `run` holds; copies share that.
struct Row {
  std::string name;   // "namespace/fresh/net"; what is before the first slash is its section
  std::string floor;  // the row it is compared with, taken in the same rounds; empty: none
  std::map<std::string, double> parameters;  // {"concurrency", 4}
  // One measurement: state.max_iterations iterations, or an error.
  std::function<void(benchmark::State&, Samples&)> run;

  int iterations = 40;  // in one round
  int warm_ups = 3;     // before those
  int every = 1;        // takes part in each n-th round alone, when one measurement takes long
  bool brief = false;   // part of the short run, too
  // The kernel goes on cleaning up after it (network namespaces die late and slowly): whoever comes
  // next has to be spared that.
  bool leaves_debt = false;
  std::string note;         // for the reader: the exact command, or what the figure holds
  std::string unavailable;  // not empty: it is not run, and this is why

  std::string section() const { return name.substr(0, name.find('/')); }
};

inline Row UnavailableRow(std::string name, std::string why) {
  Row row;
  row.name = std::move(name);
  row.unavailable = std::move(why);
  return row;
}

// Nothing stands in its way, and yet it could not be set up.
inline Row FailingRow(std::string name, absl::Status status) {
  Row row;
  row.name = std::move(name);
  row.run = [status = std::move(status)](benchmark::State& state, Samples&) {
    Fail(state, status);
  };
  return row;
}

inline void Append(std::vector<Row>& rows, std::vector<Row> more) {
  for (Row& row : more) rows.push_back(std::move(row));
}

}  // namespace brood::bench
