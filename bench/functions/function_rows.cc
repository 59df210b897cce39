// SPDX-License-Identifier: Apache-2.0

#include "bench/functions/function_rows.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "bench/functions/daemon.h"
#include "bench/functions/http_caller.h"
#include "bench/harness/concurrent.h"
#include "bench/measures/floors.h"
#include "bench/measures/measures.h"
#include "pool/burst/floor.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

// As brood.toml has them. A mode that is to be measured is a word here.
constexpr std::array kModes = {"cold", "parked", "primed"};
constexpr std::array kPythonModes = {"cold", "primed", kForked};
constexpr std::array kConnections = {2, 8, 32};

constexpr char kFunctionFloor[] = "function/floor";
constexpr char kIdleFloor[] = "function/floor/idle";
constexpr char kRateFloor[] = "function/rate/floor";
constexpr char kForkedFloor[] = "function/forked/floor";
constexpr char kCat[] = "/bin/cat";  // a static program cannot be forked
constexpr char kPythonFloor[] = "function/python/floor";
constexpr char kPython[] = "/usr/bin/python3";
constexpr char kImports[] = "import os, sys, json, ssl, urllib.request";
// Taking the interpreter down is left out in all modes: it takes longer than all else.
constexpr char kAnswer[] = "sys.stdout.write(sys.stdin.read()); sys.stdout.flush(); os._exit(0)";
constexpr std::uint32_t kStock = 16;  // ready ahead of a measurement of what goes on for long

// What is sent; short, as most events are.
const std::string& Body() {
  static const std::string body(64, 'x');
  return body;
}

// A call whose answer is what was sent, from an isolate that came to be in the way of `mode`.
absl::Status CallOnce(HttpCaller& caller, const std::string& request, std::string_view mode) {
  BROOD_ASSIGN_OR_RETURN(const HttpCaller::Answer answer, caller.Call(request));
  if (answer.status != 200 || answer.body != Body()) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the function was answered {} with {} bytes", answer.status, answer.body.size());
  }
  if (mode.empty() || answer.path == mode) return absl::OkStatus();
  return Error(absl::StatusCode::kInternal, "wanted a {} isolate, had a {} one", mode, answer.path);
}

// One call after the other. All that is needed stands ready before, so that none takes another
// path; of a forked function only its process, unless it is `ahead`.
Row OneAtATime(const Setup& setup, std::string name, std::vector<std::string> command,
               const std::string& mode, std::chrono::milliseconds quiet = {}, bool ahead = true) {
  Row row;
  row.name = std::move(name);
  row.leaves_debt = true;
  row.run = [&setup, command = std::move(command), mode, quiet, ahead](benchmark::State& state,
                                                                       Samples& samples) {
    // Twice as many: those that are gone are replaced once half of them are.
    const auto ready =
        ahead ? static_cast<std::uint32_t>(2 * (state.max_iterations + samples.warm_ups()) + 2) : 0;
    const absl::StatusOr<FunctionDaemon> daemon =
        FunctionDaemon::Start(setup.brood, setup.scratch / "functions", {command, mode, ready});
    if (!daemon.ok()) return Fail(state, daemon.status());
    absl::StatusOr<HttpCaller> caller = HttpCaller::Connect(daemon->port());
    if (!caller.ok()) return Fail(state, caller.status());
    const std::string request = PostRequest(kFunction, Body());
    samples.MeasureAfter(state, quiet, [&] { return CallOnce(*caller, request, mode); });
  };
  return row;
}

// As many callers as there are connections, each with one call after the other, for as long as it
// takes: what is ready ahead is soon used up, and made at the rate at which it is needed.
Row Rate(const Setup& setup, const std::string& echo, const std::string& mode, int connections) {
  const auto shared = std::make_shared<std::weak_ptr<FunctionDaemon>>();
  Row row = ConcurrentRow(
      fmt::format("function/rate/{}/connections={}", mode, connections), connections,
      [&setup, echo, mode, shared]() -> absl::StatusOr<Once> {
        std::shared_ptr<FunctionDaemon> daemon = shared->lock();
        if (!daemon) {
          BROOD_ASSIGN_OR_RETURN(FunctionDaemon started,
                                 FunctionDaemon::Start(setup.brood, setup.scratch / "functions",
                                                       {{echo}, mode, kStock}));
          daemon = std::make_shared<FunctionDaemon>(std::move(started));
          *shared = daemon;
        }
        BROOD_ASSIGN_OR_RETURN(HttpCaller connected, HttpCaller::Connect(daemon->port()));
        auto caller = std::make_shared<HttpCaller>(std::move(connected));
        return [caller, daemon, request = PostRequest(kFunction, Body())] {
          return CallOnce(*caller, request, "");
        };
      });
  row.floor = kRateFloor;
  row.iterations = 600 / connections;
  row.warm_ups = 2;
  row.every = 3;
  row.leaves_debt = true;
  return row;
}

// Bare processes, made by as many threads as there are processors.
Row RateFloor(const Command& echo) {
  const auto threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  Row row = ConcurrentRow(kRateFloor, threads, [&echo]() -> absl::StatusOr<Once> {
    BROOD_ASSIGN_OR_RETURN(FloorSpawner made, FloorSpawner::Create(echo));
    const auto floor = std::make_shared<FloorSpawner>(std::move(made));
    return [floor] { return FloorOnce(*floor); };
  });
  row.iterations = 300;
  row.every = 3;
  return row;
}

void AddPython(const Setup& setup, std::vector<Row>& rows) {
  static const Command command = [] {
    Command bare;
    bare.argv = {kPython, "-c", kImports};
    return bare;
  }();
  std::vector<Row> python;
  python.push_back(ExecRow(kPythonFloor, Start::kClone3Vfork, command));
  for (const char* const mode : kPythonModes) {
    python.push_back(OneAtATime(setup, fmt::format("function/python/{}", mode),
                                {kPython, "-c", fmt::format("{}\n{}", kImports, kAnswer)}, mode));
    python.back().floor = kPythonFloor;
  }
  python.push_back(OneAtATime(setup, "function/python/forked/at-call",
                              {kPython, "-c", fmt::format("{}\n{}", kImports, kAnswer)}, kForked,
                              {},
                              /*ahead=*/false));
  python.back().floor = kPythonFloor;
  for (Row& row : python) {
    if (access(kPython, X_OK) != 0) {
      row = UnavailableRow(row.name, fmt::format("there is no {}", kPython));
    }
    row.iterations = 8;
    row.warm_ups = 1;
    row.every = 3;
    row.note = kImports;
    rows.push_back(std::move(row));
  }
}

// A clone made before its call, and one made at it.
void AddForked(const Setup& setup, std::vector<Row>& rows) {
  static const Command command = [] {
    Command bare;
    bare.argv = {kCat};
    return bare;
  }();
  rows.push_back(ExecRow(kForkedFloor, Start::kClone3Vfork, command));
  for (const bool ahead : {true, false}) {
    rows.push_back(OneAtATime(setup, ahead ? "function/forked" : "function/forked/at-call", {kCat},
                              kForked, {}, ahead));
    rows.back().floor = kForkedFloor;
  }
}

}  // namespace

std::vector<Row> FunctionRows(const Setup& setup) {
  const Command& echo = setup.echo;
  const std::string& program = echo.argv[0];
  std::vector<Row> rows;
  rows.push_back(ExecRow(kFunctionFloor, Start::kClone3Vfork, echo));
  for (const char* const mode : kModes) {
    rows.push_back(OneAtATime(setup, fmt::format("function/{}", mode), {program}, mode));
    rows.back().floor = kFunctionFloor;
  }
  for (Row& row : rows) row.brief = true;
  // One now and then, when all that the last one left behind has been cleaned up.
  const std::size_t idle = rows.size();
  rows.push_back(ExecRow(kIdleFloor, Start::kClone3Vfork, echo, kQuiet));
  for (const char* const mode : kModes) {
    rows.push_back(
        OneAtATime(setup, fmt::format("function/{}/idle", mode), {program}, mode, kQuiet));
    rows.back().floor = kIdleFloor;
  }
  for (std::size_t i = idle; i < rows.size(); ++i) {
    rows[i].iterations = 15;
    rows[i].warm_ups = 1;
    rows[i].parameters = {{"idle_ms", static_cast<double>(kQuiet.count())}};
  }
  rows.push_back(RateFloor(echo));
  for (const char* const mode : kModes) {
    for (const int connections : kConnections) {
      rows.push_back(Rate(setup, program, mode, connections));
    }
  }
  AddForked(setup, rows);
  AddPython(setup, rows);
  return rows;
}

}  // namespace brood::bench
