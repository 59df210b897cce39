// SPDX-License-Identifier: Apache-2.0

#include "spawn/outcome.h"

#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "spawn/base/status.h"

namespace brood {
namespace {

// A tenth of a microsecond is finer than the clock's readings differ.
double Rounded(double value) { return std::round(value * 10) / 10; }

void AddUsage(const LeafUsage& usage, nlohmann::ordered_json& json) {
  const std::pair<const char*, const std::optional<std::uint64_t>*> counts[] = {
      {"cpu_periods", &usage.cpu_periods},
      {"cpu_throttled_periods", &usage.cpu_throttled_periods},
      {"cpu_throttled_us", &usage.cpu_throttled_us},
      {"memory_peak_bytes", &usage.memory_peak_bytes},
      {"memory_high_events", &usage.memory_high_events},
      {"oom_kills", &usage.oom_kills},
      {"oom_group_kills", &usage.oom_group_kills},
      {"pids_peak", &usage.pids_peak},
      {"pids_refused", &usage.pids_refused}};
  for (const auto& [key, count] : counts) {
    if (*count) json[key] = **count;
  }
  if (const auto cause = CauseOfOom(usage)) json["oom_cause"] = OomCauseName(*cause);
  if (usage.io) {
    json["io"] = {{"read_bytes", usage.io->read_bytes},
                  {"write_bytes", usage.io->write_bytes},
                  {"read_ops", usage.io->read_ops},
                  {"write_ops", usage.io->write_ops}};
  }
}

}  // namespace

std::string_view SpawnPathName(SpawnPath path) {
  switch (path) {
    case SpawnPath::kCold:
      return "cold";
    case SpawnPath::kZygote:
      return "zygote";
    case SpawnPath::kParked:
      return "parked";
    case SpawnPath::kForked:
      return "forked";
  }
  return "unknown";
}

std::string_view EndName(End end) {
  switch (end) {
    case End::kExited:
      return "exited";
    case End::kSignalled:
      return "signalled";
    case End::kTimeout:
      return "timeout";
    case End::kKilled:
      return "killed";
    case End::kOom:
      return "oom";
    case End::kSetupFailed:
      return "setup_failed";
    case End::kUnknown:
      return "unknown";
  }
  return "unknown";
}

std::string EndText(const Outcome& outcome) {
  if (!outcome.message.empty()) return outcome.message;
  if (outcome.end == End::kExited) {
    return fmt::format("the command exited with status {}", outcome.exit_code);
  }
  return fmt::format("the command was ended: {} (signal {})", EndName(outcome.end), outcome.signal);
}

std::string ToText(const Fallback& fallback) {
  return fmt::format("wanted {}, used {}{}", fallback.wanted, fallback.used,
                     fallback.error == 0 ? "" : " (" + ErrnoText(fallback.error) + ")");
}

std::string ToText(const std::vector<Fallback>& fallbacks) {
  std::string text;
  for (const Fallback& fallback : fallbacks) {
    if (!text.empty()) text += "; ";
    text += ToText(fallback);
  }
  return text;
}

int ExitStatus(const Outcome& outcome) {
  switch (outcome.end) {
    case End::kExited:
      return outcome.exit_code;
    case End::kSignalled:
    case End::kKilled:
    case End::kOom:
      return 128 + outcome.signal;
    case End::kTimeout:
      return 124;
    case End::kSetupFailed:
    case End::kUnknown:
      break;
  }
  if (outcome.failure.step != Step::kExec) return 125;
  return outcome.failure.error == ENOENT ? 127 : 126;
}

nlohmann::ordered_json ToJson(const std::vector<Fallback>& fallbacks) {
  auto json = nlohmann::ordered_json::array();
  for (const Fallback& fallback : fallbacks) {
    json.push_back({{"wanted", fallback.wanted},
                    {"used", fallback.used},
                    {"errno", fallback.error},
                    {"error", fallback.error == 0 ? "" : ErrnoText(fallback.error)}});
  }
  return json;
}

nlohmann::ordered_json ToJson(const SlotUse& slot) {
  return {{"number", slot.number}, {"used", slot.used}};
}

nlohmann::ordered_json ToJson(const Outcome& outcome) {
  nlohmann::ordered_json json;
  json["id"] = outcome.id;
  if (!outcome.template_name.empty()) json["template"] = outcome.template_name;
  json["spawn_path"] = SpawnPathName(outcome.spawn_path);
  json["fallbacks"] = ToJson(outcome.fallbacks);
  if (outcome.slot) json["slot"] = ToJson(*outcome.slot);
  if (!outcome.fresh.empty()) json["fresh"] = outcome.fresh;
  json["host_pid"] = outcome.host_pid;
  json["inside_pid"] = outcome.inside_pid;
  json["end"] = EndName(outcome.end);
  if (outcome.end == End::kExited) json["exit_code"] = outcome.exit_code;
  if (outcome.signal != 0) json["signal"] = outcome.signal;
  if (outcome.failure.failed()) {
    json["failure"] = {{"step", StepName(outcome.failure.step)},
                       {"index", outcome.failure.index},
                       {"errno", outcome.failure.error}};
  }
  if (!outcome.message.empty()) json["message"] = outcome.message;
  json["exit_status"] = ExitStatus(outcome);
  json["wall_us"] = Rounded(outcome.wall_us);
  if (outcome.park_us > 0) json["park_us"] = Rounded(outcome.park_us);
  if (outcome.cpu_us) json["cpu_us"] = Rounded(*outcome.cpu_us);
  AddUsage(outcome.usage, json);
  if (!outcome.limits_met.empty()) json["limits_met"] = outcome.limits_met;
  json["out_bytes"] = outcome.out_bytes;
  json["err_bytes"] = outcome.err_bytes;
  json["truncated"] = outcome.truncated();
  auto timeline = nlohmann::ordered_json::array();
  for (const Moment& moment : outcome.timeline) {
    timeline.push_back({{"name", moment.name}, {"at_us", Rounded(moment.at_us)}});
  }
  json["timeline"] = timeline;
  return json;
}

}  // namespace brood
