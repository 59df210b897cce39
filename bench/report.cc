#include "bench/report.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include "bench/namespaces.h"
#include "bench/statistics.h"
#include "bench/strategies.h"
#include "spawn/spec.h"
#include "spawn/status.h"

namespace brood::bench {
namespace {

using Json = nlohmann::ordered_json;

// Microseconds: none needs a digit below what repeating it would move.
std::string Us(double us) {
  return us < 100 ? fmt::format("{:.1f}", us) : fmt::format("{:.0f}", us);
}
std::string SignedUs(double us) { return (us < 0 ? "-" : "+") + Us(std::abs(us)); }
std::string Times(std::optional<double> ratio) {
  return ratio ? fmt::format("×{:.2f}", *ratio) : "-";
}

std::optional<Summary> Find(const Results& results, const std::string& name) {
  if (results.errors.contains(name)) return std::nullopt;
  const auto found = results.samples_us.find(name);
  if (found == results.samples_us.end() || found->second.empty()) return std::nullopt;
  return Summarize(found->second);
}

constexpr char kNotRun[] = "not run";

// Why a row has no figures: failed, cannot run here, or was not asked for.
std::string WhyNot(const Results& results, const std::string& name) {
  if (const auto it = results.errors.find(name); it != results.errors.end()) {
    return "FAILED: " + it->second;
  }
  if (const auto it = results.unavailable.find(name); it != results.unavailable.end()) {
    return "skipped: " + it->second;
  }
  return kNotRun;
}

// Notes that several rows share: the note, and the names of those rows.
class SharedNotes {
 public:
  void Add(const std::string& note, const std::string& name) {
    for (auto& [known, names] : notes_) {
      if (known != note) continue;
      names += ", " + name;
      return;
    }
    notes_.emplace_back(note, name);
  }
  void AppendTo(Table& table) const {
    for (const auto& [note, names] : notes_)
      table.notes.push_back(fmt::format("{}: {}", names, note));
  }

 private:
  std::vector<std::pair<std::string, std::string>> notes_;
};

// p50, p99, difference to the floor at p50, ratio to it.
std::array<std::string, 4> NamespaceCells(const Results& results, const std::string& name,
                                          const std::string& floor_name) {
  const std::optional<Summary> summary = Find(results, name);
  if (!summary) {
    const std::string why = WhyNot(results, name);
    return {why.substr(0, why.find(':')), "-", "-", "-"};
  }
  const std::optional<Summary> floor = Find(results, floor_name);
  return {Us(summary->p50), Us(summary->p99), floor ? SignedUs(summary->p50 - floor->p50) : "-",
          floor ? Times(Ratio(summary->p50, floor->p50)) : "-"};
}

struct NamespaceLine {
  std::string title;
  std::string fresh;  // row names; empty: there is none
  std::string prepared;
  std::string prepared_floor = kNamespaceFloor;
};

std::vector<NamespaceLine> NamespaceLines() {
  std::vector<NamespaceLine> lines;
  lines.push_back({"none: the floor", kNamespaceFloor, kNamespaceFloor});
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    NamespaceLine& line = lines.emplace_back();
    line.title = NamespaceName(kind);
    line.fresh = FreshName(kind);
    line.prepared = PreparedName(kind);
    if (kind == NamespaceKind::kTime) {
      line.prepared_floor = kForkedNamespaceFloor;
    }
  }
  lines.push_back({"all eight", kFreshAll, ""});
  lines.push_back({"all but time", "", kPreparedAllButTime});
  lines.push_back({"user, ids mapped", kFreshIdMap, ""});
  lines.push_back({"net, lo up", kFreshLoopback, ""});
  lines.push_back({"mount, /proc and /tmp", kFreshMounts, ""});
  lines.push_back({"none, forked", kForkedNamespaceFloor, ""});
  return lines;
}

// Over several bursts: the median of each figure, and the sum of what went wrong.
struct BurstSummary {
  double rate = 0;
  double floor_rate = 0;
  double rate_ratio = 0;
  double least_ratio = 0;
  double most_ratio = 0;
  double p50 = 0;
  double p99 = 0;
  double floor_p50 = 0;
  double floor_p99 = 0;
  double p50_ratio = 0;
  double p99_ratio = 0;
  double p50_mad = 0;
  double floor_p50_mad = 0;
  double park_us = 0;
  double park_bytes = 0;
  std::uint32_t failed = 0;
  std::string first_failure;
  BurstReport::LeftBehind left;
};

BurstSummary SummarizeBursts(const std::vector<BurstReport>& bursts) {
  const auto all = [&](auto&& figure) {
    std::vector<double> values;
    values.reserve(bursts.size());
    for (const BurstReport& burst : bursts) values.push_back(figure(burst));
    return values;
  };
  const auto median = [&](auto&& figure) { return Median(all(figure)); };
  BurstSummary out;
  out.rate = median([](const BurstReport& b) { return b.rate_per_s; });
  out.floor_rate = median([](const BurstReport& b) { return b.floor_rate_per_s; });
  // Each burst against the floor measured around it, then the median: the machine may have changed
  // between one burst and the next.
  const std::vector<double> ratios = all([](const BurstReport& b) { return b.RateRatio(); });
  out.rate_ratio = Median(ratios);
  if (!ratios.empty()) {
    out.least_ratio = *std::min_element(ratios.begin(), ratios.end());
    out.most_ratio = *std::max_element(ratios.begin(), ratios.end());
  }
  out.p50 = median([](const BurstReport& b) { return b.latency_us.p50; });
  out.p99 = median([](const BurstReport& b) { return b.latency_us.p99; });
  out.floor_p50 = median([](const BurstReport& b) { return b.floor_us.p50; });
  out.floor_p99 = median([](const BurstReport& b) { return b.floor_us.p99; });
  out.p50_ratio = median(
      [](const BurstReport& b) { return Ratio(b.latency_us.p50, b.floor_us.p50).value_or(0); });
  out.p99_ratio = median(
      [](const BurstReport& b) { return Ratio(b.latency_us.p99, b.floor_us.p99).value_or(0); });
  out.p50_mad = Mad(all([](const BurstReport& b) { return b.latency_us.p50; }));
  out.floor_p50_mad = Mad(all([](const BurstReport& b) { return b.floor_us.p50; }));
  out.park_us = median([](const BurstReport& b) { return b.park_us_p50; });
  out.park_bytes = median([](const BurstReport& b) { return b.park_bytes; });
  for (const BurstReport& burst : bursts) {
    out.failed += burst.failed;
    if (out.first_failure.empty()) out.first_failure = burst.first_failure;
    out.left.processes += burst.left_behind.processes;
    out.left.cgroups += burst.left_behind.cgroups;
    out.left.mounts += burst.left_behind.mounts;
    out.left.fds += burst.left_behind.fds;
  }
  return out;
}

void AddBurstRows(const Results& results, Table& table) {
  const std::string title = fmt::format("burst of {}, brood parked", results.burst_count);
  if (results.bursts.empty()) {
    const std::string why = results.burst_errors.empty()
                                ? WhyNot(results, kBurst)
                                : "FAILED: " + results.burst_errors.front();
    table.rows.push_back({{title}, why});
    return;
  }
  const BurstSummary burst = SummarizeBursts(results.bursts);
  // Rates and latencies of a burst with failures would be told of fewer, or of faster, processes.
  if (burst.failed != 0) {
    table.rows.push_back(
        {{title},
         fmt::format("FAILED: {} of {} runs; the first: {}", burst.failed,
                     results.burst_count * results.bursts.size(), burst.first_failure)});
    return;
  }
  table.rows.push_back(
      {{title, fmt::format("{:.0f}", burst.rate), Times(burst.rate_ratio), Us(burst.p50),
        Us(burst.p50_mad), Us(burst.p99), Times(burst.p50_ratio), Times(burst.p99_ratio)},
       ""});
  table.rows.push_back({{fmt::format("burst of {}, bare: its floor", results.burst_count),
                         fmt::format("{:.0f}", burst.floor_rate), Times(1), Us(burst.floor_p50),
                         Us(burst.floor_p50_mad), Us(burst.floor_p99), Times(1), Times(1)},
                        ""});
}

void AddBurstNotes(const Results& results, Table& table) {
  if (results.bursts.empty()) return;
  const BurstSummary burst = SummarizeBursts(results.bursts);
  table.notes.push_back(
      fmt::format("{} burst{}: {:.2f} to {:.2f} times the rate of the floor; {} of {} runs failed",
                  results.bursts.size(), results.bursts.size() == 1 ? "" : "s", burst.least_ratio,
                  burst.most_ratio, burst.failed, results.burst_count * results.bursts.size()));
  const BurstReport::LeftBehind& left = burst.left;
  table.notes.push_back(
      left.any() ? fmt::format("LEFT BEHIND: {} processes, {} cgroups, {} mounts, {} descriptors",
                               left.processes, left.cgroups, left.mounts, left.fds)
                 : "left behind: no process, no cgroup, no mount, no descriptor");
  if (burst.park_us > 0) {
    std::string note =
        fmt::format("parking one worker, ahead of its request: {} us", Us(burst.park_us));
    if (burst.park_bytes > 0) {
      note += fmt::format(", {:.0f} KiB while parked", burst.park_bytes / 1024);
    }
    table.notes.push_back(note);
  }
}

constexpr std::array<std::pair<std::string_view, const char*>, 8> kSpawnLines = {{
    {"brood parked", kSpawnParked},
    {"brood zygote", kSpawnZygote},
    {"brood cold", kSpawnCold},
    {"fork + exec", kSpawnFork},
    {"vfork + exec", kSpawnVfork},
    {"posix_spawn", kSpawnPosix},
    {"clone3, eight namespaces + exec", kSpawnNamespaces},
    {"clone3(VM|VFORK) + exec: the floor", kSpawnFloor},
}};

// "a, b" of a JSON list of strings.
std::string Listed(const Json& list) {
  std::string text;
  for (const Json& entry : list) text += (text.empty() ? "" : ", ") + entry.get<std::string>();
  return text;
}

// A value at a path such as "kernel/hz", as text; `otherwise` where it is absent.
std::string At(const Json& context, const std::string& path, std::string otherwise = "unknown") {
  const Json::json_pointer pointer("/" + path);
  if (!context.contains(pointer)) return otherwise;
  const Json& value = context.at(pointer);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

double Rounded(double value) { return std::round(value * 100) / 100; }

}  // namespace

bool Results::bad() const {
  if (!errors.empty() || !burst_errors.empty()) return true;
  const BurstSummary burst = SummarizeBursts(bursts);
  return burst.failed != 0 || burst.left.any();
}

bool HasAny(const Results& results, std::string_view prefix) {
  const auto among = [&](const auto& rows) {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const auto& row) { return row.first.starts_with(prefix); });
  };
  return among(results.samples_us) || among(results.errors) || among(results.unavailable);
}

Table NamespaceTable(const Results& results) {
  Table table;
  table.title = "What each namespace costs";
  table.header = {"namespace",       "fresh p50 us", "p99 us", "over",   "/ floor",
                  "prepared p50 us", "p99 us",       "over",   "/ floor"};
  SharedNotes notes;
  for (const NamespaceLine& line : NamespaceLines()) {
    TableRow row;
    row.cells.push_back(line.title);
    for (const auto& [name, floor] : {std::pair{line.fresh, std::string(kNamespaceFloor)},
                                      std::pair{line.prepared, line.prepared_floor}}) {
      if (name.empty()) {
        row.cells.insert(row.cells.end(), 4, "");
        continue;
      }
      for (std::string& cell : NamespaceCells(results, name, floor)) {
        row.cells.push_back(std::move(cell));
      }
      if (const std::string why = WhyNot(results, name); !Find(results, name) && why != kNotRun) {
        notes.Add(why, name.substr(name.find('/') + 1));
      }
    }
    table.rows.push_back(std::move(row));
  }
  notes.AppendTo(table);
  table.notes.emplace_back("over, / floor: p50 against none; time, prepared, against none, forked");
  return table;
}

Table SpawnTable(const Results& results) {
  Table table;
  table.title = "What each way of spawning costs";
  table.header = {"way",   "per second", "/ floor",     "p50 us",
                  "± MAD", "p99 us",     "p50 / floor", "p99 / floor"};
  AddBurstRows(results, table);
  const std::optional<Summary> floor = Find(results, kSpawnFloor);
  SharedNotes notes;
  for (const auto& [title, name] : kSpawnLines) {
    TableRow row;
    row.cells.emplace_back(title);
    if (const std::optional<Summary> summary = Find(results, name)) {
      for (std::string cell :
           {std::string(), std::string(), Us(summary->p50), Us(summary->mad), Us(summary->p99),
            floor ? Times(Ratio(summary->p50, floor->p50)) : "-",
            floor ? Times(Ratio(summary->p99, floor->p99)) : "-"}) {
        row.cells.push_back(std::move(cell));
      }
    } else {
      row.instead = WhyNot(results, name);
    }
    table.rows.push_back(std::move(row));
    if (const auto label = results.labels.find(name); label != results.labels.end()) {
      notes.Add(label->second, std::string(title));
    }
  }
  if (!results.bursts.empty() && !results.bursts.front().fallbacks.empty()) {
    notes.Add(FallbackText(results.bursts.front().fallbacks), "bursts");
  }
  AddBurstNotes(results, table);
  notes.AppendTo(table);
  return table;
}

std::string ContextInProse(const nlohmann::ordered_json& context) {
  const auto at = [&](const char* path, const char* otherwise = "unknown") {
    return At(context, path, otherwise);
  };
  std::string text =
      fmt::format("brood {} at commit {}, a {} build by {}, run on {} as {}.\n\n",
                  at("brood/version"), at("brood/commit"), at("build/type"), at("build/compiler"),
                  at("started"), at("process/root") == "true" ? "root" : "an ordinary user");
  text += fmt::format(
      "The machine: {} processors ({}), {}, {} MiB of memory. Linux {} ({}), HZ {}, preemption "
      "{}{}.\n",
      at("cpu/online"), at("cpu/model"),
      at("cpu/hypervisor") == "true" ? "under a hypervisor" : "no hypervisor seen",
      at("memory/total_mib"), at("kernel/release"), at("kernel/version"), at("kernel/hz"),
      at("kernel/preemption"),
      context.contains(Json::json_pointer("/kernel/preemption_mode"))
          ? ", mode " + at("kernel/preemption_mode")
          : "");
  const auto unless_empty = [&](const char* path, const char* otherwise) {
    const std::string value = at(path);
    return value.empty() ? std::string(otherwise) : value;
  };
  text += fmt::format("Mitigations at work: {}; vulnerable without: {}. Boot options: {}.\n",
                      unless_empty("mitigations/active", "none"),
                      unless_empty("mitigations/vulnerable", "nothing"),
                      unless_empty("kernel/boot_options", "none that matter"));
  const auto list = [&](const char* path) {
    const Json::json_pointer pointer(path);
    const std::string listed = context.contains(pointer) ? Listed(context.at(pointer)) : "";
    return listed.empty() ? std::string("none") : listed;
  };
  text += fmt::format(
      "cgroups: {}, controllers on v2: {}; on v1: {}; favordynmods {}. rcu_expedited {}, "
      "rcu_normal {}.\n",
      at("cgroup/layout"), list("/cgroup/controllers"), list("/cgroup/v1_controllers"),
      at("cgroup/favordynmods") == "true" ? "on" : "off", at("kernel/rcu_expedited"),
      at("kernel/rcu_normal"));
  text += fmt::format(
      "{} mounts in the namespace that is copied; IPv6 {}; fb_tunnels_only_for_init_net {}; "
      "RLIMIT_NOFILE {} soft, {} hard.\n",
      at("process/mounts"), at("network/ipv6"), at("network/fb_tunnels_only_for_init_net"),
      at("process/rlimit_nofile/soft"), at("process/rlimit_nofile/hard"));
  text += fmt::format("Load average {} before and {} after, the run's own work included.\n",
                      at("load_average/before"), at("load_average/after"));
  return text;
}

std::string SummaryPage(const Results& results) {
  std::string page = fmt::format("# What isolation costs: {}\n\n", At(results.context, "machine"));
  for (const std::string& warning : results.warnings) {
    page += fmt::format("> **Warning:** {}.\n\n", warning);
  }
  if (results.bad()) {
    page += "> **Warning:** something failed in this run; the rows concerned say what.\n\n";
  }
  page += ContextInProse(results.context);
  page += "\n" + DrawAsMarkdown(SpawnTable(results));
  page += R"(
How to read it. The payload is a static program that only exits. Each figure is real time as the
caller sees it, from its first call to the child reaped, and each run's exit status is checked.
`/ floor` compares with the cheapest way there is of starting the same program with no isolation,
measured in between, in the same run. In the bursts all processes are asked for at once, so their
latencies are mostly waiting for their turn. brood's run has eight fresh namespaces, its own cgroup,
a read-only root, no capabilities and the system call filter; what a parked worker cost ahead of its
request is told below the table. MAD: median absolute deviation of the repetitions' medians.
)";
  if (!HasAny(results, "namespace/")) return page;
  page += "\n" + DrawAsMarkdown(NamespaceTable(results));
  page += R"(
How to read it. A child is cloned with CLONE_VM and CLONE_VFORK, makes (fresh) or enters (prepared)
the namespace, exits, and is reaped: making and what of the undoing its parent has to wait for. A
network namespace is taken down later, by the kernel alone, which no figure here holds. cgroup and
time namespaces are made by unshare in the child; a time namespace is not entered by that (only exec
or fork does). A pid namespace is entered by the parent before it clones, and left again after. A
time namespace can be entered only by who shares no memory, so that child is forked, and compared
with a forked child that does nothing.
)";
  return page;
}

nlohmann::ordered_json BurstJson(const Results& results) {
  Json json;
  json["count"] = results.burst_count;
  json["errors"] = results.burst_errors;
  json["bursts"] = Json::array();
  for (const BurstReport& burst : results.bursts) {
    json["bursts"].push_back(ToJson(burst));
  }
  return json;
}

nlohmann::ordered_json SamplesJson(const Results& results) {
  Json json = Json::object();
  for (const auto& [name, repetitions] : results.samples_us) {
    if (results.errors.contains(name)) continue;
    const Summary summary = Summarize(repetitions);
    Json& row = json[name];
    row["count"] = summary.count;
    row["p50_us"] = Rounded(summary.p50);
    row["p90_us"] = Rounded(summary.p90);
    row["p99_us"] = Rounded(summary.p99);
    row["max_us"] = Rounded(summary.max);
    row["repetition_p50_us"] = {{"mad", Rounded(summary.mad)},
                                {"min", Rounded(summary.least)},
                                {"max", Rounded(summary.most)}};
    row["repetitions_us"] = Json::array();
    for (const std::vector<double>& repetition : repetitions) {
      Json& samples = row["repetitions_us"].emplace_back(Json::array());
      for (const double sample : repetition) samples.push_back(Rounded(sample));
    }
  }
  return json;
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.flush();
  if (!file) return ErrnoError(errno, "writing {}", path);
  return absl::OkStatus();
}

}  // namespace brood::bench
