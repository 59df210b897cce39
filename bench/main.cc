// brood-bench: measures what isolation costs on this machine, and writes down what it found.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <regex>
#include <thread>
#include <utility>

#include "bench/collector.h"
#include "bench/context.h"
#include "bench/namespaces.h"
#include "bench/progress.h"
#include "bench/report.h"
#include "bench/strategies.h"
#include "spawn/status.h"

namespace brood::bench {
namespace {

constexpr int kFailed = 1;  // a row failed, or something was left behind
constexpr int kUnable = 2;  // nothing was measured, or it could not be written

// What a burst counts for in the progress line, in repetitions of a row.
constexpr double kBurstUnits = 40;

// How long a repetition that leaves the kernel cleaning up holds back the next one: dead network
// namespaces are taken down by a worker of the kernel's, which nobody can wait for.
constexpr std::chrono::milliseconds kSettle{100};

struct Options {
  std::string out;
  std::string filter;
  std::string payload;
  int repetitions = 0;
  bool quick = false;
};

// How much is measured: everything in less than three minutes on two slow processors; quick is for
// seeing that it works.
struct Effort {
  int repetitions = 20;  // of each row, spread over the whole run
  int iterations = 40;   // measured, in each
  int bursts = 6;        // half of them before the rows, half after
  std::uint32_t burst_count = 1000;
};

Effort EffortFor(const Options& options) {
  Effort effort;
  if (options.quick) effort = {3, 10, 1, 200};
  if (options.repetitions > 0) effort.repetitions = options.repetitions;
  return effort;
}

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "brood-bench: %s\n", std::string(Message(status)).c_str());
  return kUnable;
}

// brood-true lies beside this program.
absl::StatusOr<std::string> DefaultPayload() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoError(error.value(), "looking for this program's own file");
  return (self.parent_path() / "brood-true").string();
}

absl::StatusOr<std::filesystem::path> MakeOutputDirectory(const Options& options) {
  std::filesystem::path directory = options.out;
  if (options.out.empty()) {
    const std::string name = fmt::format("{}-{}-{}", Today(), MachineName(), Commit());
    directory = std::filesystem::path("results") / name;
    for (int i = 2; std::filesystem::exists(directory); ++i) {
      directory.replace_filename(fmt::format("{}-{}", name, i));
    }
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return ErrnoError(error.value(), "making the directory {}", directory.string());
  return directory;
}

class Bench {
 public:
  Bench(const Options& options, const Command& command, const std::regex& filter)
      : effort_(EffortFor(options)), command_(command), filter_(filter) {}

  // False when no row is wanted.
  bool Choose() {
    for (std::vector<Row>& rows : std::array{SpawnRows(command_), NamespaceRows()}) {
      for (Row& row : rows) {
        if (!Wanted(row.name)) continue;
        if (row.unavailable.empty()) {
          rows_.push_back(std::move(row));
        } else {
          results_.unavailable[row.name] = row.unavailable;
        }
      }
    }
    if (!Wanted(kBurst)) effort_.bursts = 0;
    return !rows_.empty() || !results_.unavailable.empty() || effort_.bursts != 0;
  }

  absl::Status Run() {
    results_.context = CollectContext();
    results_.warnings = Warnings(results_.context);
    results_.burst_count = effort_.burst_count;
    Progress progress(effort_.bursts * kBurstUnits +
                      static_cast<double>(rows_.size()) * effort_.repetitions);
    const int before = (effort_.bursts + 1) / 2;
    for (int i = 0; i < before; ++i) RunBurst(progress);
    BROOD_RETURN_IF_ERROR(RunRows(progress));
    for (int i = before; i < effort_.bursts; ++i) RunBurst(progress);
    results_.context["load_average"]["after"] = LoadAverage();
    results_.context["ended"] = Now();
    results_.context["warnings"] = results_.warnings;
    results_.context["effort"] = {{"repetitions", effort_.repetitions},
                                  {"iterations", effort_.iterations},
                                  {"warm_ups", Latencies::kWarmUps},
                                  {"bursts", effort_.bursts},
                                  {"burst_count", effort_.burst_count}};
    return absl::OkStatus();
  }

  absl::Status Write(const std::filesystem::path& directory) const {
    const auto write = [&](const char* name, const std::string& text) {
      return WriteFile((directory / name).string(), text);
    };
    BROOD_RETURN_IF_ERROR(write("context.json", results_.context.dump(2) + "\n"));
    if (!rows_.empty()) {
      BROOD_RETURN_IF_ERROR(write("benchmark.json", benchmark_json_.dump(1) + "\n"));
      BROOD_RETURN_IF_ERROR(write("samples.json", SamplesJson(results_).dump() + "\n"));
    }
    if (effort_.bursts != 0) {
      BROOD_RETURN_IF_ERROR(write("burst.json", BurstJson(results_).dump(2) + "\n"));
    }
    return write("summary.md", SummaryPage(results_));
  }

  const Results& results() const { return results_; }

 private:
  bool Wanted(const std::string& name) const { return std::regex_search(name, filter_); }

  void RunBurst(Progress& progress) {
    BurstOptions options = IsolatedBurst(command_, effort_.burst_count);
    options.progress = [&](const char* what, std::uint32_t done, std::uint32_t of) {
      // Parking is the longer half of it.
      const double part = of == 0 ? 0 : static_cast<double>(done) / of;
      const bool parking = std::string_view(what) == "parking";
      progress.Partly(fmt::format("burst: {} {} of {}", what, done, of), kBurstUnits,
                      parking ? 0.2 + part * 0.5 : 0.7 + part * 0.2);
    };
    progress.Begin("burst: the floor");
    if (absl::StatusOr<BurstReport> report = brood::RunBurst(options); report.ok()) {
      results_.bursts.push_back(*std::move(report));
    } else {
      results_.burst_errors.emplace_back(Message(report.status()));
    }
    progress.Done(kBurstUnits);
    std::this_thread::sleep_for(10 * kSettle);
  }

  absl::Status RunRows(Progress& progress) {
    if (rows_.empty()) return absl::OkStatus();
    // Repetitions of all rows in random order: what drifts hits all of them, the floors too.
    std::string repetitions = fmt::format("--benchmark_repetitions={}", effort_.repetitions);
    std::string name = "brood-bench";
    std::string interleave = "--benchmark_enable_random_interleaving=true";
    std::array<char*, 3> argv = {name.data(), repetitions.data(), interleave.data()};
    int argc = static_cast<int>(argv.size());
    benchmark::Initialize(&argc, argv.data());
    AddToGoogleBenchmark(results_.context);
    for (const Row& row : rows_) {
      benchmark::RegisterBenchmark(row.name.c_str(),
                                   [&](benchmark::State& state) { RunOne(row, state, progress); })
          ->Iterations(effort_.iterations)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
    Collector collector;
    benchmark::RunSpecifiedBenchmarks(&collector, "all");
    benchmark::Shutdown();
    results_.errors = collector.errors();
    results_.labels = collector.labels();
    BROOD_ASSIGN_OR_RETURN(benchmark_json_, collector.Json());
    NoteLibrary();
    return absl::OkStatus();
  }

  void RunOne(const Row& row, benchmark::State& state, Progress& progress) {
    progress.Begin(row.name);
    Latencies latencies;
    row.run(state, latencies);
    if (std::vector<double> samples = latencies.Take(); !samples.empty()) {
      results_.samples_us[row.name].push_back(std::move(samples));
    }
    if (row.leaves_debt) std::this_thread::sleep_for(kSettle);
    progress.Done(1);
  }

  // Debian builds the library with assertions, which it reports as "debug". It takes none of our
  // times (see latencies.h), so that is told and not warned of.
  void NoteLibrary() {
    const nlohmann::ordered_json::json_pointer type("/context/library_build_type");
    if (!benchmark_json_.contains(type)) return;
    results_.context["google_benchmark"] = {{"build_type", benchmark_json_.at(type)},
                                            {"takes_the_times", false}};
  }

  Effort effort_;
  const Command& command_;
  const std::regex& filter_;
  std::vector<Row> rows_;
  Results results_;
  nlohmann::ordered_json benchmark_json_;
};

int Main(int argc, char** argv) {
  CLI::App app("brood-bench: what isolation costs on this machine", "brood-bench");
  Options options;
  app.add_option("--out", options.out,
                 "Directory for the results (default results/DATE-MACHINE-COMMIT)")
      ->type_name("DIR");
  app.add_flag("--quick", options.quick, "A few of each: shows that it works, not what it costs");
  app.add_option("--filter", options.filter, "Only rows whose names match, as 'spawn/' or 'net'")
      ->type_name("REGEX");
  app.add_option("--repetitions", options.repetitions, "Repetitions of each row (default 20)")
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  app.add_option("--payload", options.payload,
                 "Program to spawn, as an absolute path (default brood-true, beside this one)")
      ->type_name("FILE");
  app.footer(
      "\nWrites context.json, benchmark.json, samples.json, burst.json and summary.md.\n"
      "Exit status: 0; 1 when a row failed or something was left behind; 2 when nothing\n"
      "was measured or written.");
  CLI11_PARSE(app, argc, argv);

  std::regex filter;
  try {
    filter = std::regex(options.filter);
  } catch (const std::regex_error& error) {
    return Complain(Error(absl::StatusCode::kInvalidArgument,
                          "--filter {} is no regular expression: {}", options.filter,
                          error.what()));
  }
  if (options.payload.empty()) {
    absl::StatusOr<std::string> payload = DefaultPayload();
    if (!payload.ok()) return Complain(payload.status());
    options.payload = *std::move(payload);
  }
  if (const absl::Status seen = CheckPayload(options.payload); !seen.ok()) return Complain(seen);
  const Command command = PayloadCommand(options.payload);

  Bench bench(options, command, filter);
  if (!bench.Choose()) {
    return Complain(Error(absl::StatusCode::kNotFound, "no row's name matches {}", options.filter));
  }
  const absl::StatusOr<std::filesystem::path> directory = MakeOutputDirectory(options);
  if (!directory.ok()) return Complain(directory.status());
  if (const absl::Status ran = bench.Run(); !ran.ok()) return Complain(ran);
  if (const absl::Status written = bench.Write(*directory); !written.ok()) return Complain(written);

  const Results& results = bench.results();
  fmt::print("{}\n", DrawForTerminal(SpawnTable(results)));
  if (HasAny(results, "namespace/")) fmt::print("{}\n", DrawForTerminal(NamespaceTable(results)));
  for (const std::string& warning : results.warnings) fmt::print("WARNING: {}\n", warning);
  fmt::print("written to {}\n", directory->string());
  return results.bad() ? kFailed : 0;
}

}  // namespace
}  // namespace brood::bench

int main(int argc, char** argv) { return brood::bench::Main(argc, argv); }
