// SPDX-License-Identifier: Apache-2.0

// brood-bench: measures what isolation costs on this machine, and writes down what it found.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <regex>
#include <set>
#include <utility>

#include "bench/functions/function_rows.h"
#include "bench/harness/context.h"
#include "bench/harness/janitor.h"
#include "bench/harness/record.h"
#include "bench/harness/rounds.h"
#include "bench/harness/summary.h"
#include "bench/measures/measures.h"
#include "bench/measures/paths.h"
#include "bench/peers/peers.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

constexpr int kFailed = 1;   // a row failed
constexpr int kUnable = 2;   // nothing was measured, or it could not be written
constexpr int kStopped = 3;  // by a signal; to be gone on with

// The short run takes less than three minutes on two slow processors.
constexpr int kBriefRounds = 12;
constexpr int kFullRounds = 18;  // an interval takes six, and slow rows come in every third

struct Options {
  std::string out;
  std::string resume;
  std::string filter;
  std::string payload;
  int rounds = 0;
  bool full = false;
  bool favor_dynmods = false;
  bool list = false;
};

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "brood-bench: %s\n", std::string(Message(status)).c_str());
  return status.code() == absl::StatusCode::kCancelled ? kStopped : kUnable;
}

absl::StatusOr<std::filesystem::path> OwnDirectory() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoError(error.value(), "looking for this program's own file");
  return self.parent_path();
}

std::filesystem::path NewDirectory() {
  const std::string name = fmt::format("{}-{}-{}", Today(), MachineName(), Commit());
  std::filesystem::path directory = std::filesystem::path("results") / name;
  for (int i = 2; std::filesystem::exists(directory); ++i) {
    directory.replace_filename(fmt::format("{}-{}", name, i));
  }
  return directory;
}

// Which rows are wanted, by name.
absl::StatusOr<std::function<bool(const std::string&)>> MakeFilter(const Options& options) {
  try {
    const std::regex filter(options.filter);
    return [filter](const std::string& name) { return std::regex_search(name, filter); };
  } catch (const std::regex_error& error) {
    return InvalidError("--filter {} is no regular expression: {}", options.filter, error.what());
  }
}

// Those that are wanted, with the floors that they are compared with.
absl::StatusOr<std::vector<Row>> Choose(const Setup& setup, const Options& options) {
  BROOD_ASSIGN_OR_RETURN(const auto matches, MakeFilter(options));
  std::vector<Row> all;
  for (const auto rows : {FloorRows, NamespaceRows, TeardownRows, CgroupRows, MountRows, FenceRows,
                          WaitRows, PathRows, LoadRows, ScaleRows, FunctionRows}) {
    Append(all, rows(setup));
  }
  const bool brief = !options.full && options.filter.empty();
  std::set<std::string> names;
  for (const Row& row : all) {
    if ((brief && !row.brief) || !matches(row.name)) continue;
    names.insert(row.name);
    if (!row.floor.empty()) names.insert(row.floor);
  }
  std::erase_if(all, [&](const Row& row) { return !names.contains(row.name); });
  // Trying them takes seconds, and starts daemons.
  if (!brief && !options.list) {
    Append(all, PeerRows({setup.payload.argv[0], setup.brood, setup.scratch}, matches));
  }
  if (!brief && options.list) {
    for (const std::string& name : PeerNames()) {
      if (matches(name)) all.push_back(UnavailableRow(name, "not tried"));
    }
  }
  if (all.empty()) {
    return Error(absl::StatusCode::kNotFound, "no row's name matches {}; --list prints them all",
                 options.filter);
  }
  return all;
}

void Print(const std::vector<Row>& rows, const Record& record,
           const nlohmann::ordered_json& context) {
  for (const Table& table : SummaryTables(rows, record.measurements())) {
    fmt::print("{}\n", DrawForTerminal(table));
  }
  for (const auto& warning : context.at("warnings")) {
    fmt::print("WARNING: {}\n", warning.get<std::string>());
  }
  fmt::print("written to {}\n", record.directory().string());
}

absl::StatusOr<int> Measure(const Options& options, const Setup& setup) {
  // Before the peers are tried, which is work that others' load should not be taken for.
  nlohmann::ordered_json context = CollectContext();
  BROOD_ASSIGN_OR_RETURN(const std::vector<Row> rows, Choose(setup, options));
  if (options.list) {
    for (const Row& row : rows) fmt::print("{}\n", row.name);
    return 0;
  }
  const int rounds = options.rounds > 0 ? options.rounds
                     : options.full     ? kFullRounds
                                        : kBriefRounds;
  context["effort"] = {{"rounds", rounds}, {"full", options.full}, {"filter", options.filter}};
  context["warnings"] = Warnings(context);
  if (std::any_of(rows.begin(), rows.end(),
                  [](const Row& row) { return row.section() == "peer"; })) {
    context["peers"] = PeerVersions({setup.payload.argv[0], setup.brood, setup.scratch});
  }
  const std::filesystem::path out =
      options.out.empty() ? NewDirectory() : std::filesystem::path(options.out);
  BROOD_ASSIGN_OR_RETURN(Record record, options.resume.empty()
                                            ? Record::Create(out, context, rows)
                                            : Record::Resume(options.resume, context, rows));
  BROOD_RETURN_IF_ERROR(RunRounds(rows, rounds, record));
  context["load_average"]["after"] = LoadAverage();
  context["ended"] = Now();
  BROOD_RETURN_IF_ERROR(record.WriteContext(context));
  Print(rows, record, context);
  return CountFailed(record.measurements()) == 0 ? 0 : kFailed;
}

int Main(int argc, char** argv) {
  CLI::App app("brood-bench: what isolation costs on this machine", "brood-bench");
  Options options;
  app.add_flag("--full", options.full, "All rows: what is published (about half an hour)");
  app.add_option("--out", options.out,
                 "Directory for the results (default results/DATE-MACHINE-COMMIT)")
      ->type_name("DIR");
  app.add_option("--resume", options.resume,
                 "Go on with the run in this directory, with the same --full and --filter")
      ->type_name("DIR")
      ->excludes("--out");
  app.add_option("--filter", options.filter, "Only rows whose names match, as 'spawn/' or 'net'")
      ->type_name("REGEX");
  app.add_option("--rounds", options.rounds,
                 fmt::format("Rounds, each with all rows once (default {}, with --full {})",
                             kBriefRounds, kFullRounds))
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  app.add_option("--payload", options.payload,
                 "Program to spawn, as an absolute path (default brood-true, beside this one)")
      ->type_name("FILE");
  app.add_flag("--favordynmods", options.favor_dynmods,
               "Also measure cgroups with favordynmods, whose effect stays until the next boot");
  app.add_flag("--list", options.list, "Print the rows' names and measure nothing");
  app.footer(
      "\nWrites context.json, rows.json and samples.jsonl, of which bench/report makes a page.\n"
      "Exit status: 0; 1 when a row failed; 2 when nothing was measured or written; 3 when it\n"
      "was stopped by a signal, to be gone on with.");
  CLI11_PARSE(app, argc, argv);

  const absl::StatusOr<std::filesystem::path> own = OwnDirectory();
  if (!own.ok()) return Complain(own.status());
  const absl::StatusOr<Janitor> janitor = Janitor::Hire();
  if (!janitor.ok()) return Complain(janitor.status());
  if (options.payload.empty()) options.payload = *own / "brood-true";
  if (const absl::Status seen = CheckPayload(options.payload); !seen.ok()) return Complain(seen);
  const Setup setup{PayloadCommand(options.payload),
                    PayloadCommand(*own / "brood-true-dynamic"),
                    PayloadCommand(*own / "brood-echo"),
                    *own / "brood",
                    janitor->scratch(),
                    options.favor_dynmods};
  const absl::StatusOr<int> measured = Measure(options, setup);
  return measured.ok() ? *measured : Complain(measured.status());
}

}  // namespace
}  // namespace brood::bench

int main(int argc, char** argv) { return brood::bench::Main(argc, argv); }
