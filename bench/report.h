// From measured values to the two tables that a reader wants. Pure, save WriteFile.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "bench/table.h"
#include "pool/burst.h"

namespace brood::bench {

// Everything one run of the benchmarks has found, by row name.
struct Results {
  nlohmann::ordered_json context;
  std::vector<std::string> warnings;
  std::map<std::string, std::vector<std::vector<double>>> samples_us;  // one vector a repetition
  std::map<std::string, std::string> errors;       // rows that failed: no figure is told for them
  std::map<std::string, std::string> unavailable;  // rows that cannot run here, and why
  std::map<std::string, std::string> labels;       // what a row had to do without
  std::uint32_t burst_count = 0;
  std::vector<BurstReport> bursts;
  std::vector<std::string> burst_errors;  // bursts that gave no report at all

  // Something failed, or was left behind.
  bool bad() const;
};

// Whether any row whose name starts with `prefix` was asked for.
bool HasAny(const Results& results, std::string_view prefix);

// What each namespace costs, fresh and prepared.
Table NamespaceTable(const Results& results);
// What each way of spawning costs, led by the bursts.
Table SpawnTable(const Results& results);

// The context, as a few sentences.
std::string ContextInProse(const nlohmann::ordered_json& context);
// summary.md.
std::string SummaryPage(const Results& results);
// burst.json.
nlohmann::ordered_json BurstJson(const Results& results);
// samples.json: what the tables are computed from, and the figures.
nlohmann::ordered_json SamplesJson(const Results& results);

absl::Status WriteFile(const std::string& path, const std::string& text);

}  // namespace brood::bench
