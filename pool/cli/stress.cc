// brood stress: each limit driven to failure where nobody else notices, and named.
#include "bench/limits/stress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pool/cli/commands.h"
#include "pool/cli/values.h"
#include "spawn/status.h"

namespace brood {
namespace {

struct Options {
  std::vector<std::string> limits;
  limits::StressOptions stress;
  std::string budget;
  std::uint32_t reserve_percent = 20;
  bool list = false;
  bool json = false;
};

void PrintRow(const nlohmann::ordered_json& one) {
  if (one.contains("skipped")) {
    fmt::print("{:18} skipped: {}\n", one["unit"].get<std::string>(),
               one["skipped"].get<std::string>());
    return;
  }
  const auto& curve = one["curve"];
  fmt::print("{:18} {:>6} of {:<6} {:8} {:>9.3f} {:>8.0f} {:>8.0f} {:>9} {:>9.1f}{}\n",
             one["unit"].get<std::string>(), one["reached"].get<std::uint64_t>(),
             one["set_to"].get<std::uint64_t>(), one.value("errno", one["stopped_by"]),
             one["seconds"].get<double>(), curve.empty() ? 0.0 : curve.front()[1].get<double>(),
             curve.empty() ? 0.0 : curve.back()[1].get<double>(),
             one.contains("bytes_each") ? one["bytes_each"].dump() : "-",
             one["drain_ms"].get<double>(), one["drained"].get<bool>() ? "" : " not drained");
  if (one.contains("sentence")) fmt::print("  {}\n", one["sentence"].get<std::string>());
  std::fflush(stdout);
}

int Run(Options options) {
  if (options.list) {
    for (const auto& [name, what] : limits::Units()) fmt::print("{:20} {}\n", name, what);
    return 0;
  }
  if (!options.budget.empty()) {
    const absl::StatusOr<std::chrono::nanoseconds> budget = ParseDuration(options.budget);
    if (!budget.ok()) return Complain(budget.status());
    options.stress.budget = std::chrono::ceil<std::chrono::seconds>(*budget);
  }
  options.stress.memory_reserve = options.reserve_percent / 100.0;
  if (options.limits.empty()) {
    for (const auto& unit : limits::Units()) options.limits.emplace_back(unit.name);
  }
  if (!options.json) {
    fmt::print("{:18} {:>6}    {:<6} {:8} {:>9} {:>8} {:>8} {:>9} {:>9}\n", "limit", "", "",
               "errno", "seconds", "first us", "last us", "bytes", "drain ms");
  }
  auto all = nlohmann::ordered_json::array();
  bool all_named = true;
  for (const std::string& name : options.limits) {
    absl::StatusOr<nlohmann::ordered_json> one = limits::Push(name, options.stress);
    if (absl::IsUnavailable(one.status())) {
      one = nlohmann::ordered_json{{"unit", name}, {"skipped", Message(one.status())}};
    }
    if (!one.ok()) {
      const int status = Complain(one.status());
      return absl::IsCancelled(one.status()) ? 130 : status;
    }
    if (one->contains("errno") &&
        (*one)["named"] != nlohmann::ordered_json::array({(*one)["limit"]})) {
      all_named = false;
    }
    if (!options.json) PrintRow(*one);
    all.push_back(*std::move(one));
  }
  if (options.json) fmt::print("{}\n", all.dump(2));
  return all_named ? 0 : 1;
}

}  // namespace

CommandAction AddStressCommand(CLI::App& app) {
  CLI::App* const stress =
      app.add_subcommand("stress", "Drives the kernel's limits to failure, one by one");
  const auto options = std::make_shared<Options>();
  stress->add_option("limit", options->limits, "Which limits; all by default")->type_name("LIMIT");
  stress->add_flag("--list", options->list, "Lists the limits");
  stress->add_flag("--json", options->json, "As JSON, with the cost of one more as counts grow");
  stress
      ->add_option("--up-to", options->stress.up_to,
                   "What each limit is set to in its place (default 500)")
      ->type_name("N")
      ->check(CLI::Range(2, 15'000));
  stress->add_option("--budget", options->budget, "For each limit (default 60s)")
      ->type_name("TIME");
  stress
      ->add_option("--memory-reserve", options->reserve_percent,
                   "Percent of memory below which nothing is added (default 20)")
      ->type_name("PERCENT")
      ->check(CLI::Range(5, 95));
  Describe(*stress,
           "brood stress [option...] [LIMIT...]\n\n"
           "Sets each limit low in a user namespace or cgroup of its own, adds one after another "
           "until the kernel refuses, tells which limit that was, and waits until the kernel "
           "counts none any more. The machine's own limits are not reached.\n\n"
           "Exit status: 0 each limit that was hit was named; 1 one was not; 130 interrupted.");
  return [options](const std::vector<std::string>&) { return Run(*options); };
}

}  // namespace brood
