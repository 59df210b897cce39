// SPDX-License-Identifier: Apache-2.0

// brood stress: each limit driven to failure where nobody else notices, and named; with --host the
// machine's own; and storms.
#include "pool/stress/stress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "pool/cli/commands.h"
#include "pool/cli/values.h"
#include "pool/stress/isolates.h"
#include "pool/stress/unit.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kStorm = "storm";
constexpr std::string_view kIsolates = "isolates";
constexpr int kInterrupted = 130;

struct StressCommandOptions {
  std::vector<std::string> limits;
  std::uint64_t up_to = 0;  // 0: 500, or 20,000 isolates
  std::string budget;
  std::uint32_t reserve_percent = 20;
  bool list = false;
  bool host = false;
  bool yes = false;
  bool json = false;
  std::string name_space;
  double rate = 1000;
  std::string length = "30s";
};

std::string Text(const Json& json) {
  return json.is_string() ? json.get<std::string>() : json.dump();
}

// "500", or "-" where there is none.
std::string NumberOrNone(const Json& json) { return json.is_number() ? json.dump() : "-"; }

void PrintLimit(const Json& one) {
  if (one.contains("skipped")) {
    fmt::print("{:18} skipped: {}\n", Text(one["unit"]), Text(one["skipped"]));
    return;
  }
  const Json& curve = one["curve"];
  fmt::print("{:18} {:>7} of {:<7} {:8} {:>9.3f} {:>8.0f} {:>8.0f} {:>9} {:>9.1f}{}\n",
             Text(one["unit"]), one["reached"].get<std::uint64_t>(), NumberOrNone(one["set_to"]),
             Text(one.value("errno", one["stopped_by"])), one["seconds"].get<double>(),
             curve.empty() ? 0.0 : curve.front()[1].get<double>(),
             curve.empty() ? 0.0 : curve.back()[1].get<double>(),
             NumberOrNone(one.value("bytes_each", Json(nullptr))), one["drain_ms"].get<double>(),
             one["drained"].get<bool>() ? "" : " not drained");
  if (one.contains("sentence")) fmt::print("  {}\n", Text(one["sentence"]));
  const Json& predicted = one["predicted"];
  if (predicted["limit"] != "none" && predicted["limit"] != one["limit"]) {
    fmt::print("  predicted: {} at {}\n", Text(predicted["limit"]), predicted["reached"].dump());
  }
  std::fflush(stdout);
}

void PrintIsolates(const Json& one) {
  const Json& curve = one["curve"];
  fmt::print("{} isolates of {} live, in {:.1f} s; ended by: {}\n", one["reached"].dump(),
             one["set_to"].dump(), one["seconds"].get<double>(), Text(one["stopped_by"]));
  if (one.contains("sentence")) fmt::print("  {}\n", Text(one["sentence"]));
  for (const Json& raised : one["raised"]) {
    fmt::print("  during the run, {} was {} instead of {}\n", Text(raised["file"]),
               raised["to"].dump(), raised["from"].dump());
  }
  fmt::print("  predicted: {} at {}\n", Text(one["predicted"]["limit"]),
             one["predicted"]["reached"].dump());
  if (!curve.empty()) {
    fmt::print("  one more: {:.0f} us at {}, {:.0f} us at {}\n", curve.front()[1].get<double>(),
               curve.front()[0].dump(), curve.back()[1].get<double>(), curve.back()[0].dump());
  }
  fmt::print("  {} bytes each\n", NumberOrNone(one.value("bytes_each", Json(nullptr))));
  fmt::print("  ended in {:.1f} s; {}: {:.2f} % of the processes are gone\n",
             one["drain_ms"].get<double>() / 1e3,
             one["drained"].get<bool>() ? "every count is back" : "not every count is back",
             one["recovered"].get<double>() * 100);
  for (const auto& [name, count] : one["counts"].items()) {
    fmt::print("  {:16} {:>12} before {:>12} at the peak {:>12} after\n", name,
               count["before"].dump(), count["peak"].dump(), count["after"].dump());
  }
}

void PrintStorm(const Json& one) {
  fmt::print(
      "{}: {} made, {:.0f} of {:.0f} a second; from the moment each was due, p50 {:.0f} us, "
      "p99 {:.0f} us, longest {:.0f} us\n",
      Text(one["unit"]), one["made"].dump(), one["rate_reached"].get<double>(),
      one["rate_wanted"].get<double>(), one["latency_us"]["p50"].get<double>(),
      one["latency_us"]["p99"].get<double>(), one["latency_us"]["max"].get<double>());
  for (const auto& [error, count] : one["errors"].items()) {
    fmt::print("  {} times {}\n", count.dump(), error);
  }
  fmt::print("  dropped but not gone yet: {:>6} at most\n", one["peak"].dump());
  const std::size_t step = std::max<std::size_t>(one["debt"].size() / 12, 1);
  for (std::size_t i = 0; i < one["debt"].size(); i += step) {
    fmt::print("  {:>8.2f} s {:>6}\n", one["debt"][i][0].get<double>(), one["debt"][i][1].dump());
  }
  fmt::print("  {} after {:.0f} ms\n", one["drained"].get<bool>() ? "all gone" : "not gone",
             one["drain_ms"].get<double>());
}

int List() {
  fmt::print("{:18} {:27} {:>12}  {}\n", "LIMIT", "KERNEL'S NAME", "HERE", "SET BY");
  for (const limits::Unit& unit : limits::AllUnits()) {
    const std::optional<std::uint64_t> here = limits::Configured(unit);
    fmt::print("{:18} {:27} {:>12}  {}\n", unit.name, unit.limit.empty() ? "none" : unit.limit,
               here ? std::to_string(*here) : "-",
               unit.where.empty() ? "built into the kernel" : unit.where);
  }
  fmt::print("{:18} {:27} {:>12}  {}\n", kIsolates, "whichever is first", "-", "with --host");
  return 0;
}

// The machine's own limits are other people's, too.
bool Agreed(const StressCommandOptions& options) {
  if (options.yes) return true;
  if (isatty(STDIN_FILENO) == 0) {
    fmt::print(stderr,
               "brood: --host fills the machine's own limits, which others need too; without a "
               "terminal to ask on, it needs --yes\n");
    return false;
  }
  fmt::print(stderr,
             "This fills limits of the whole machine for a while: others may fail to start "
             "processes. Go on? [y/N] ");
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

// The outcome, or why this machine has none.
absl::StatusOr<Json> Skippable(const std::string& name, absl::StatusOr<Json> one) {
  if (!absl::IsUnavailable(one.status())) return one;
  return Json{{"unit", name}, {"skipped", Message(one.status())}};
}

int Failed(const absl::Status& status) {
  const int failed = Complain(status);
  return absl::IsCancelled(status) ? kInterrupted : failed;
}

int RunStorms(const StressCommandOptions& options, std::vector<std::string> units) {
  limits::StormOptions storm;
  storm.rate = options.rate;
  const absl::StatusOr<std::chrono::nanoseconds> length = ParseDuration(options.length);
  if (!length.ok()) return Complain(length.status());
  storm.length = std::chrono::ceil<std::chrono::seconds>(*length);
  if (!options.name_space.empty()) {
    // As the kernel's files call it; its limit is named by what it is.
    units.push_back((options.name_space == "mnt" ? "mount" : options.name_space) + "-namespaces");
  }
  if (units.empty()) units.emplace_back("net-namespaces");
  auto all = Json::array();
  for (const std::string& name : units) {
    absl::StatusOr<Json> one = Skippable(name, limits::Storm(name, storm));
    if (!one.ok()) return Failed(one.status());
    if (!options.json) one->contains("skipped") ? PrintLimit(*one) : PrintStorm(*one);
    all.push_back(*std::move(one));
  }
  if (options.json) fmt::print("{}\n", all.dump(2));
  return 0;
}

absl::StatusOr<Json> PushOne(const std::string& name, const limits::StressOptions& stress,
                             const StressCommandOptions& options) {
  if (name != kIsolates) return limits::Push(name, stress);
  if (!options.host) {
    return InvalidError("isolates fill the whole machine: add --host");
  }
  limits::IsolatesOptions isolates;
  if (options.up_to != 0) isolates.up_to = options.up_to;
  if (!options.budget.empty()) isolates.budget = stress.budget;
  isolates.memory_reserve = stress.memory_reserve;
  return limits::PushIsolates(isolates);
}

int RunLimits(const StressCommandOptions& options) {
  limits::StressOptions stress;
  if (options.up_to != 0) stress.up_to = options.up_to;
  stress.host = options.host;
  stress.memory_reserve = options.reserve_percent / 100.0;
  if (!options.budget.empty()) {
    const absl::StatusOr<std::chrono::nanoseconds> budget = ParseDuration(options.budget);
    if (!budget.ok()) return Complain(budget.status());
    stress.budget = std::chrono::ceil<std::chrono::seconds>(*budget);
  }
  std::vector<std::string> names = options.limits;
  if (names.empty() && options.host) names.emplace_back(kIsolates);
  if (names.empty()) {
    for (const limits::Unit& unit : limits::AllUnits()) names.emplace_back(unit.name);
  }
  if (options.host && !Agreed(options)) return 1;
  if (!options.json && names != std::vector<std::string>{std::string(kIsolates)}) {
    fmt::print("{:18} {:>7}    {:<7} {:8} {:>9} {:>8} {:>8} {:>9} {:>9}\n", "limit", "reached", "",
               "errno", "seconds", "first us", "last us", "bytes", "drain ms");
  }
  auto all = Json::array();
  bool as_should_be = true;
  for (const std::string& name : names) {
    absl::StatusOr<Json> one = Skippable(name, PushOne(name, stress, options));
    if (!one.ok()) return Failed(one.status());
    // A refusal by exactly one limit, which is the one that was to be reached, here; on the machine
    // whichever comes first.
    if (one->contains("errno")) {
      as_should_be &= options.host ? (*one)["named"].size() == 1
                                   : (*one)["named"] == Json::array({(*one)["limit"]});
    }
    if (one->contains("drained")) as_should_be &= (*one)["drained"].get<bool>();
    if (!options.json) name == kIsolates ? PrintIsolates(*one) : PrintLimit(*one);
    all.push_back(*std::move(one));
  }
  if (options.json) fmt::print("{}\n", all.dump(2));
  return as_should_be ? 0 : 1;
}

// An option that would be without effect, and why.
absl::Status CheckCombination(const StressCommandOptions& options, const CLI::App& stress) {
  const bool storm = !options.limits.empty() && options.limits.front() == kStorm;
  const auto refuse_any = [&](std::initializer_list<const char*> names, std::string_view why) {
    for (const char* const name : names) {
      if (stress.get_option(name)->count() == 0) continue;
      return InvalidError("{} {}", name, why);
    }
    return absl::OkStatus();
  };
  if (options.list) {
    if (!options.limits.empty()) {
      return InvalidError("--list lists all limits: leave out {}", options.limits.front());
    }
    return refuse_any({"--json", "--up-to", "--budget", "--memory-reserve", "--host", "--yes",
                       "--namespace", "--rate", "--for"},
                      "is without effect with --list");
  }
  if (storm) {
    return refuse_any({"--up-to", "--budget", "--memory-reserve", "--host", "--yes"},
                      "is without effect for a storm, which takes --rate and --for");
  }
  BROOD_RETURN_IF_ERROR(
      refuse_any({"--namespace", "--rate", "--for"}, "is for storms: brood stress storm"));
  if (options.host) return absl::OkStatus();
  return refuse_any({"--yes"}, "is without effect without --host: nothing else asks");
}

// A limit may be named by as much of its name as no other begins with.
absl::Status CompleteNames(std::vector<std::string>& names) {
  for (std::string& name : names) {
    if (name == kStorm || name == kIsolates || limits::FindUnit(name) != nullptr) continue;
    std::vector<std::string> those;
    for (const std::string_view unit : limits::UnitsThatBeginWith(name)) those.emplace_back(unit);
    for (const std::string_view other : {std::string_view(kStorm), std::string_view(kIsolates)}) {
      if (other.starts_with(name)) those.emplace_back(other);
    }
    if (those.size() == 1) name = those.front();
    if (those.size() > 1) {
      return InvalidError("{} may be {}: give more of the name", name,
                          absl::StrJoin(those, " or "));
    }
  }
  return absl::OkStatus();
}

int Run(const StressCommandOptions& options) {
  if (options.list) return List();
  if (!options.limits.empty() && options.limits.front() == kStorm) {
    return RunStorms(options, {options.limits.begin() + 1, options.limits.end()});
  }
  return RunLimits(options);
}

}  // namespace

CommandAction AddStressCommand(CLI::App& app) {
  CLI::App* const stress =
      app.add_subcommand("stress", "Drive the kernel's limits to failure, one by one");
  const auto options = std::make_shared<StressCommandOptions>();
  stress
      ->add_option("limit", options->limits,
                   "Which limits (default: all); or storm, and which limits to make and drop")
      ->type_name("LIMIT");
  stress->add_flag("--list", options->list, "List the limits and their values here");
  stress->add_flag("--json", options->json, "As JSON, with the cost of one more as counts grow");
  stress
      ->add_option("--up-to", options->up_to,
                   "What each limit is set to (default 500); with --host, how many are added at "
                   "most (isolates: 20000)")
      ->type_name("N")
      ->check(CLI::Range(2, 1'000'000));
  stress
      ->add_option("--budget", options->budget,
                   "Longest time for each limit (default 60s; isolates: 15m)")
      ->type_name("TIME");
  stress
      ->add_option("--memory-reserve", options->reserve_percent,
                   "Stop when less than this percentage of memory is available (default 20)")
      ->type_name("PERCENT")
      ->check(CLI::Range(5, 95));
  stress->add_flag("--host", options->host,
                   "Drive the machine's own limits; without LIMIT, start as many isolates as the "
                   "machine can hold");
  stress->add_flag("--yes", options->yes, "Do not ask before --host");
  stress
      ->add_option("--namespace", options->name_space,
                   "storm: namespaces of this kind, as net, mount or pid")
      ->type_name("KIND")
      ->group("Storms");
  stress->add_option("--rate", options->rate, "storm: how many a second (default 1000)")
      ->type_name("N")
      ->check(CLI::Range(0.1, 1e6))
      ->group("Storms");
  stress->add_option("--for", options->length, "storm: how long (default 30s)")
      ->type_name("TIME")
      ->group("Storms");
  Describe(*stress,
           "brood stress [option...] [LIMIT...]\n"
           "brood stress storm [LIMIT...] [--namespace KIND] [--rate N] [--for TIME]\n\n"
           "Set each limit low in a user namespace or cgroup of its own, add one after another "
           "until the kernel refuses, name the limit that was met, and wait until the kernel's "
           "count is back. Only --host drives the machine's own limits: it asks first, keeps a "
           "reserve of memory and restores what it has raised, even when it is killed.\n\n"
           "A storm makes and drops one after another at a set rate, and tells how many were "
           "dropped but are not gone yet.\n\n"
           "A limit's name may be shortened as long as no other begins the same.\n\n"
           "  brood stress net-namespaces pids-max\n"
           "  brood stress --host --up-to 20000\n"
           "  brood stress storm --namespace net --rate 2000 --for 30s\n\n"
           "Exit status: 0 every limit that was met was named and every count is back; 1 "
           "otherwise; 130 interrupted.");
  return [options, stress](const std::vector<std::string>&) {
    absl::Status fits = CompleteNames(options->limits);
    if (fits.ok()) fits = CheckCombination(*options, *stress);
    return fits.ok() ? Run(*options) : Complain(fits);
  };
}

}  // namespace brood
