// One row of a report: a benchmark, or the reason why it cannot run here.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>

#include "bench/latencies.h"

namespace brood::bench {

struct Row {
  std::string name;  // "namespace/fresh/net"
  // One repetition: measures state.max_iterations iterations, or skips with an error.
  std::function<void(benchmark::State&, Latencies&)> run;
  std::string unavailable;  // not empty: it is not run, and this is why
  // The kernel goes on cleaning up after it (network namespaces die late and slowly): whoever comes
  // next has to be spared that.
  bool leaves_debt = false;
};

}  // namespace brood::bench
