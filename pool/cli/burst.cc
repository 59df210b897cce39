// SPDX-License-Identifier: Apache-2.0

// brood burst: many isolated processes through the pool, compared with bare ones.
#include "pool/burst/burst.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "pool/cli/commands.h"
#include "pool/cli/isolation_options.h"
#include "pool/cli/values.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

struct BurstWords {
  IsolationOptions isolation;
  std::string count = "1000";
  std::string concurrency;
  std::string path;
  std::string parked;
  std::string zygotes;
  std::string window;
  bool no_floor = false;
  std::string socket;
  std::string tmpl;
  CLI::Option* json = nullptr;
  std::string json_file;
};

absl::StatusOr<SpawnPath> ParsePath(std::string_view word) {
  for (const SpawnPath path : {SpawnPath::kCold, SpawnPath::kZygote, SpawnPath::kParked}) {
    if (word == SpawnPathName(path)) return path;
  }
  return InvalidError("--path takes cold, zygote or parked, not \"{}\"", word);
}

// What would be without effect.
absl::Status CheckCombination(const BurstWords& words, SpawnPath path) {
  if (words.socket.empty()) {
    if (!words.tmpl.empty()) {
      return InvalidError("--template names a daemon's template: it needs --socket");
    }
    if (!words.parked.empty() && path != SpawnPath::kParked) {
      return InvalidError("--parked is for --path parked: --path {} parks no workers",
                          SpawnPathName(path));
    }
    if (!words.zygotes.empty() && path == SpawnPath::kCold) {
      return InvalidError("--zygotes does nothing with --path cold, which uses none");
    }
    return absl::OkStatus();
  }
  std::string decided = words.isolation.spec_options().FirstGiven();
  if (!words.path.empty()) decided = "--path";
  if (!words.parked.empty()) decided = "--parked";
  if (!words.zygotes.empty()) decided = "--zygotes";
  if (!words.window.empty()) decided = "--launch-window";
  if (decided.empty()) return absl::OkStatus();
  return InvalidError("{} is set by the daemon's template: leave it out, or leave out --socket",
                      decided);
}

absl::StatusOr<BurstOptions> Resolve(const BurstWords& words,
                                     const std::vector<std::string>& command) {
  BROOD_ASSIGN_OR_RETURN(auto isolation, words.isolation.Resolve(command));
  BurstOptions options;
  options.spec = std::move(isolation.spec);
  options.command = std::move(isolation.command);
  const auto number = [](const char* name, const std::string& word, std::uint32_t& out,
                         std::uint64_t most) -> absl::Status {
    if (word.empty()) return absl::OkStatus();
    BROOD_ASSIGN_OR_RETURN(const std::uint64_t value, ParseCount(name, word, 1, most));
    out = static_cast<std::uint32_t>(value);
    return absl::OkStatus();
  };
  BROOD_RETURN_IF_ERROR(number("-n", words.count, options.count, 10'000'000));
  BROOD_RETURN_IF_ERROR(number("-c", words.concurrency, options.concurrency, 1'000'000));
  BROOD_RETURN_IF_ERROR(number("--parked", words.parked, options.parked, 100'000));
  BROOD_RETURN_IF_ERROR(number("--zygotes", words.zygotes, options.zygotes, 64));
  BROOD_RETURN_IF_ERROR(number("--launch-window", words.window, options.launch_window, 100'000));
  if (!words.path.empty()) {
    BROOD_ASSIGN_OR_RETURN(options.path, ParsePath(words.path));
  }
  BROOD_RETURN_IF_ERROR(CheckCombination(words, options.path));
  options.floor = !words.no_floor;
  options.socket = words.socket;
  options.template_name = words.tmpl;
  return options;
}

void DrawProgress(const char* what, std::uint32_t done, std::uint32_t of) {
  constexpr std::uint32_t kWidth = 30;
  const std::uint32_t filled = of == 0 ? 0 : done * kWidth / of;
  std::string bar(filled, '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r%s [%s] %u/%u ", what, bar.c_str(), done, of);
  if (done == of) std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
}

void Print(const BurstReport& report, const BurstOptions& options) {
  const auto ratio = [](double value, double floor) {
    return floor > 0 ? fmt::format("{:6.2f}", value / floor) : std::string("     -");
  };
  const LatencySummary& latency = report.latency_us;
  const LatencySummary& floor = report.floor_us;
  fmt::print("{} isolated processes, {} at once, wanted path {}\n\n", report.count,
             options.concurrency == 0 ? report.count : options.concurrency,
             options.socket.empty() ? SpawnPathName(options.path) : "parked, through a daemon");
  fmt::print("                 p50        p90        p99        max       rate\n");
  const auto row = [](const char* name, const LatencySummary& s, double rate) {
    fmt::print("  {:8} {:8.0f}us {:8.0f}us {:8.0f}us {:8.0f}us {:8.0f}/s\n", name, s.p50, s.p90,
               s.p99, s.max, rate);
  };
  row("brood", latency, report.rate_per_s);
  if (options.floor) {
    row("floor", floor, report.floor_rate_per_s);
    fmt::print("  {:8} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "ratio",
               ratio(latency.p50, floor.p50), ratio(latency.p90, floor.p90),
               ratio(latency.p99, floor.p99), ratio(latency.max, floor.max),
               ratio(report.rate_per_s, report.floor_rate_per_s));
  }
  fmt::print("\n");
  std::string paths;
  for (const auto& [name, count] : report.path) {
    paths += fmt::format("{}{} {}", paths.empty() ? "" : ", ", count, name);
  }
  fmt::print("  paths taken   {}\n", paths.empty() ? "none" : paths);
  if (report.slots.made + report.slots.reused > 0) {
    fmt::print("  namespaces    {} made, {} used again\n", report.slots.made, report.slots.reused);
  }
  if (report.park_us_p50 > 0) {
    fmt::print("  parking       {:.0f}us each at the median", report.park_us_p50);
    if (report.park_bytes > 0) fmt::print(", {:.0f} KB of memory each", report.park_bytes / 1024);
    fmt::print("\n");
  }
  for (const Fallback& fallback : report.fallbacks) {
    fmt::print("  note          {}\n", ToText(fallback));
  }
  if (report.failed != 0) {
    fmt::print("  failed        {}; the first: {}\n", report.failed, report.first_failure);
  }
  const auto& left = report.left_behind;
  if (left.any()) {
    fmt::print("  LEFT BEHIND   {} processes, {} cgroups, {} mounts, {} descriptors\n",
               left.processes, left.cgroups, left.mounts, left.fds);
  } else {
    fmt::print("  left behind   nothing\n");
  }
}

int RunBurstCommand(const BurstWords& words, const std::vector<std::string>& command) {
  absl::StatusOr<BurstOptions> options = Resolve(words, command);
  if (!options.ok()) return Complain(options.status());
  if (isatty(STDERR_FILENO) != 0) options->progress = DrawProgress;
  const absl::StatusOr<BurstReport> report = RunBurst(*options);
  if (!report.ok()) return Complain(report.status());
  if (*words.json) {
    if (const absl::Status written =
            WriteJson(ToJson(*report), words.json_file, stdout, "the report");
        !written.ok()) {
      return Complain(written);
    }
  }
  if (!*words.json || !words.json_file.empty()) Print(*report, *options);
  return report->failed == 0 && !report->left_behind.any() ? 0 : 1;
}

}  // namespace

CommandAction AddBurstCommand(CLI::App& app) {
  auto words = std::make_shared<BurstWords>();
  CLI::App* burst = app.add_subcommand("burst", "Run a command many times through the pool");
  Describe(*burst,
           "brood burst [option...] [--] COMMAND [argument...]\n\n"
           "Run one command many times, each time in a worker of its own, and compare with as many "
           "bare\n"
           "processes (the floor: clone(CLONE_VM|CLONE_VFORK) and execve, no isolation).\n\n"
           "  brood burst -- /bin/true                 a thousand at once, from parked workers\n"
           "  brood burst -n 500 -c 1 -- /bin/true     one after the other: latency\n"
           "  brood burst -n 5000 -c 64 -- /bin/true   refilling as it drains: sustained rate\n"
           "  brood burst --path cold -c 1 -- /bin/true\n\n"
           "Exit status: 0; 1 when a run failed or something was left behind; 125 brood failed.");
  words->isolation.AddTo(*burst);
  const std::string group = "Burst";
  burst->add_option("-n,--count", words->count, "How many (default 1000)")
      ->type_name("N")
      ->group(group);
  burst->add_option("-c,--concurrency", words->concurrency, "How many at once (default: all)")
      ->type_name("N")
      ->group(group);
  burst->add_option("--path", words->path, "How workers are started (default parked)")
      ->type_name("cold|zygote|parked")
      ->group(group);
  burst
      ->add_option("--parked", words->parked,
                   "Workers kept parked (default: the count, at most 1000)")
      ->type_name("N")
      ->group(group);
  burst->add_option("--zygotes", words->zygotes, "Zygotes that clone workers")
      ->type_name("N")
      ->group(group);
  burst
      ->add_option("--launch-window", words->window,
                   "Workers on their way to exec at once (default: two for each processor)")
      ->type_name("N")
      ->group(group);
  burst->add_option("--socket", words->socket, "Run through the daemon that listens here")
      ->type_name("PATH")
      ->group(group);
  burst
      ->add_option("--template", words->tmpl,
                   "With --socket: the daemon's template, which sets the isolation")
      ->type_name("NAME")
      ->group(group);
  burst->add_flag("--no-floor", words->no_floor, "Do not measure the floor")->group(group);
  words->json =
      burst
          ->add_option("--json", words->json_file,
                       "Write the report as JSON: to FILE, or to stdout instead of the table")
          ->type_name("[FILE]")
          ->expected(0, 1)
          ->group(group);
  return
      [words](const std::vector<std::string>& command) { return RunBurstCommand(*words, command); };
}

}  // namespace brood
