// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/summary.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "bench/harness/statistics.h"

namespace brood::bench {
namespace {

// All that was measured of one row.
struct RowValues {
  std::map<int, std::vector<double>> latencies;  // by round
  std::map<std::string, std::vector<double>> others;
  std::string error;
  std::string label;
};
using Values = std::map<std::string, RowValues>;

Values ByRow(const std::vector<Measurement>& measurements) {
  Values all;
  for (const Measurement& one : measurements) {
    RowValues& row = all[one.row];
    if (row.error.empty()) row.error = one.error;
    if (row.label.empty()) row.label = one.label;
    for (const auto& [name, series] : one.values) {
      std::vector<double>& to = name == kLatency ? row.latencies[one.round] : row.others[name];
      to.insert(to.end(), series.begin(), series.end());
    }
  }
  return all;
}

// Microseconds: none needs a digit below what repeating it would move.
std::string Us(double us) {
  return us < 100 ? fmt::format("{:.1f}", us) : fmt::format("{:.0f}", us);
}

// The median of the rounds' own ratios: what drifts from one round to the next drops out.
std::optional<double> RatioToFloor(const RowValues& row, const RowValues& floor) {
  std::vector<double> ratios;
  for (const auto& [round, latencies] : row.latencies) {
    const auto found = floor.latencies.find(round);
    if (found == floor.latencies.end()) continue;
    if (const auto ratio = Ratio(Median(latencies), Median(found->second))) {
      ratios.push_back(*ratio);
    }
  }
  if (ratios.empty()) return std::nullopt;
  return Median(std::move(ratios));
}

std::string OthersText(const RowValues& row) {
  std::string text;
  for (const auto& [name, series] : row.others) {
    // Steps of a timeline are for the report's picture.
    if (name.starts_with("step_")) continue;
    text += fmt::format("{}{} {:.4g}", text.empty() ? "" : ", ", name, Median(series));
  }
  return text;
}

TableRow Line(const Row& row, const Values& values) {
  TableRow line;
  line.cells.push_back(row.name.substr(row.section().size() + 1));
  const auto found = values.find(row.name);
  if (!row.unavailable.empty()) {
    line.instead = "skipped: " + row.unavailable;
  } else if (found == values.end()) {
    line.instead = "not run";
  } else if (!found->second.error.empty()) {
    line.instead = "FAILED: " + found->second.error;
  }
  if (!line.instead.empty()) return line;

  std::vector<std::vector<double>> rounds;
  for (const auto& [round, latencies] : found->second.latencies) rounds.push_back(latencies);
  const Summary summary = Summarize(rounds);
  const auto floor = values.find(row.floor);
  const std::optional<double> ratio =
      floor == values.end() ? std::nullopt : RatioToFloor(found->second, floor->second);
  line.cells.insert(line.cells.end(),
                    {Us(summary.p50), Us(summary.mad), Us(summary.p99),
                     ratio ? fmt::format("×{:.2f}", *ratio) : "", OthersText(found->second)});
  return line;
}

}  // namespace

std::vector<Table> SummaryTables(const std::vector<Row>& rows,
                                 const std::vector<Measurement>& measurements) {
  const Values values = ByRow(measurements);
  std::vector<Table> tables;
  for (const Row& row : rows) {
    if (tables.empty() || tables.back().title != row.section()) {
      tables.push_back({row.section(), {"", "p50 us", "± MAD", "p99 us", "/ floor", ""}, {}, {}});
    }
    tables.back().rows.push_back(Line(row, values));
    const auto found = values.find(row.name);
    if (found != values.end() && !found->second.label.empty()) {
      tables.back().notes.push_back(row.name + ": " + found->second.label);
    }
  }
  return tables;
}

std::size_t CountFailed(const std::vector<Measurement>& measurements) {
  std::set<std::string> failed;
  for (const Measurement& one : measurements) {
    if (!one.error.empty()) failed.insert(one.row);
  }
  return failed.size();
}

}  // namespace brood::bench
