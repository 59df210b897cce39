// SPDX-License-Identifier: Apache-2.0

// brood ps, tree, top, stats: everything at once.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "pool/cli/commands.h"
#include "pool/cli/output.h"
#include "pool/cli/terminal.h"
#include "pool/cli/values.h"
#include "pool/daemon/client.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using Json = nlohmann::ordered_json;

struct OverviewWords {
  std::string socket = DefaultSocketPath();
  bool all = false;
  bool json = false;
  std::string interval = "1s";
  std::uint64_t rounds = 0;
};

std::string Joined(const Json& words) {
  std::string out;
  for (const Json& word : words) out += (out.empty() ? "" : " ") + word.get<std::string>();
  return out;
}

std::string Ago(double since) {
  const double seconds = std::max(
      0.0,
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count() -
          since);
  if (seconds < 60) return fmt::format("{:.0f}s", seconds);
  if (seconds < 3600) return fmt::format("{:.0f}m", seconds / 60);
  if (seconds < 86400) return fmt::format("{:.0f}h", seconds / 3600);
  return fmt::format("{:.0f}d", seconds / 86400);
}

void PrintList(const Json& isolates) {
  fmt::print("{:<12}  {:<16} {:<12} {:<14} {:>5}  {:>8}  {:>5}  COMMAND\n", "ID", "NAME",
             "TEMPLATE", "STATE", "AGE", "PID", "SLOT");
  for (const Json& isolate : isolates) {
    std::string state = isolate["state"];
    if (state == "ended") state = fmt::format("ended ({})", isolate["exit_status"].get<int>());
    const std::string slot = isolate.contains("slot") ? isolate["slot"]["number"].dump() : "-";
    fmt::print("{:<12}  {:<16} {:<12} {:<14} {:>5}  {:>8}  {:>5}  {}\n",
               isolate["id"].get<std::string>(), Printable(isolate["name"], 16),
               Printable(isolate["template"], 12), state, Ago(isolate["submitted"].get<double>()),
               isolate["host_pid"].get<int>(), slot, Printable(Joined(isolate["command"])));
  }
}

// One line for each process, its numbers outside and inside beside each other.
void PrintTree(const Json& node, const std::string& indent, const std::string& branch) {
  const int outside = node["pid"];
  const int inside = node.value("inside_pid", outside);
  std::string role = node["role"];
  if (role == "isolate" || role == "exec") {
    role += " " + node["id"].get<std::string>().substr(0, 6);
    if (!node["name"].get<std::string>().empty()) role += " " + Printable(node["name"], 20);
  }
  std::string uid = std::to_string(node.value("uid", 0U));
  if (node.contains("inside_uid") && node["inside_uid"] != node["uid"]) {
    uid = fmt::format("{} ({} inside)", uid, node["inside_uid"].get<std::uint32_t>());
  }
  fmt::print("{}{}{}  {}{}  uid {}  {}\n", indent, branch,
             role == "process" ? "" : "[" + role + "]", outside,
             inside != outside ? fmt::format(" ({} inside)", inside) : "", uid,
             Printable(node["command"]));
  const std::string below = indent + (branch.empty() ? "" : branch == "`-- " ? "    " : "|   ");
  const Json& children = node["children"];
  // The namespaces stand with the process that first has them: those below it are in the same.
  if (node["role"] == "isolate" || node["role"] == "daemon") {
    std::string namespaces;
    for (const auto& [name, inode] : node["namespaces"].items()) {
      const bool own = std::find(node["own"].begin(), node["own"].end(), name) != node["own"].end();
      namespaces +=
          fmt::format("{}{}:{}", namespaces.empty() ? "" : " ", name, own ? inode.dump() : "host");
    }
    const std::string bar = below + (children.empty() ? "    " : "|   ");
    if (node["role"] == "isolate") fmt::print("{}  namespaces  {}\n", bar, namespaces);
    fmt::print("{}  cgroup  {}\n", bar, node.value("cgroup", "-"));
    for (const char* key : {"parked", "slots"}) {
      if (node.contains(key)) fmt::print("{}  {}  {}\n", bar, key, node[key].get<int>());
    }
  }
  for (std::size_t i = 0; i < children.size(); ++i) {
    PrintTree(children[i], below, i + 1 == children.size() ? "`-- " : "|-- ");
  }
}

void PrintStats(const Json& stats) {
  const auto number = [&](const char* key) { return stats[key].get<std::uint64_t>(); };
  fmt::print("pool      {} parked, {} being made, {} running, {} waiting\n", number("parked"),
             number("being_made"), number("running"), number("queued"));
  const Json& misses = stats["misses"];
  fmt::print("served    {}: {} from parked workers; {} cloned, none was parked; {} cold\n",
             number("served"), number("hits"), misses["none_parked"].get<std::uint64_t>(),
             misses["own_limits_or_exec"].get<std::uint64_t>());
  fmt::print("parking   {} ever", number("parked_total"));
  if (!stats["park_us"].is_null()) fmt::print(", {:.0f} us each", stats["park_us"].get<double>());
  fmt::print("; {} lost, {} zygotes replaced\n", number("lost_workers"),
             number("zygotes_replaced"));
  const Json& slots = stats["slots"];
  fmt::print("slots     used again {} times, made {} times, {} idle", slots["used_again"].dump(),
             slots["made"].dump(), slots["idle"].dump());
  for (const auto& [fault, count] : slots["given_up"].items()) {
    if (count != 0) fmt::print("; {} given up: {}", count.dump(), fault);
  }
  fmt::print("\n");
  if (stats["isolates"].empty()) return;
  fmt::print("\n{:<12}  {:<16} {:>8}  {:>10}  {:>10}  {:>5}\n", "ID", "NAME", "PID", "CPU",
             "MEMORY", "PIDS");
  for (const Json& isolate : stats["isolates"]) {
    const auto optional = [&](const char* key, double unit, const char* suffix) {
      if (!isolate.contains(key)) return std::string("-");
      return fmt::format("{:.2f}{}", isolate[key].get<double>() / unit, suffix);
    };
    fmt::print("{:<12}  {:<16} {:>8}  {:>10}  {:>10}  {:>5}\n", isolate["id"].get<std::string>(),
               Printable(isolate["name"], 16), isolate["host_pid"].get<int>(),
               optional("cpu_us", 1e6, "s"), optional("memory_bytes", 1 << 20, "M"),
               isolate.contains("pids") ? isolate["pids"].dump() : "-");
  }
}

absl::Status Top(const OverviewWords& words, Client& client) {
  BROOD_ASSIGN_OR_RETURN(const std::chrono::nanoseconds interval, ParseDuration(words.interval));
  const bool screen = isatty(STDOUT_FILENO) == 1;
  std::map<std::string, double> before;
  auto last = std::chrono::steady_clock::now();
  for (std::uint64_t round = 0; words.rounds == 0 || round < words.rounds; ++round) {
    if (round > 0) poll(nullptr, 0, static_cast<int>(interval.count() / 1'000'000));
    BROOD_ASSIGN_OR_RETURN(const std::string text, client.Stats());
    const Json stats = Json::parse(text);
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last).count();
    last = now;
    struct Row {
      const Json* isolate;
      double share;
    };
    std::vector<Row> rows;
    std::map<std::string, double> current;
    for (const Json& isolate : stats["isolates"]) {
      const std::string id = isolate["id"];
      const double used = isolate.value("cpu_us", 0.0);
      current[id] = used;
      const auto old = before.find(id);
      rows.push_back({&isolate, old == before.end() ? 0 : (used - old->second) / 1e4 / seconds});
    }
    before = std::move(current);
    std::sort(rows.begin(), rows.end(),
              [](const Row& a, const Row& b) { return a.share > b.share; });
    const std::size_t height = screen ? SizeOf(STDOUT_FILENO).rows : 0;
    if (screen) fmt::print("\x1b[H\x1b[2J");
    fmt::print("brood  {} parked  {} running  {} waiting  {} served\n\n",
               stats["parked"].get<std::uint64_t>(), stats["running"].get<std::uint64_t>(),
               stats["queued"].get<std::uint64_t>(), stats["served"].get<std::uint64_t>());
    fmt::print("{:<12}  {:<16} {:>8}  {:>6}  {:>9}  {:>5}\n", "ID", "NAME", "PID", "CPU%", "MEMORY",
               "PIDS");
    std::size_t shown = 0;
    for (const Row& row : rows) {
      if (height > 4 && shown++ >= height - 4) break;
      const Json& isolate = *row.isolate;
      fmt::print("{:<12}  {:<16} {:>8}  {:>6.1f}  {:>9}  {:>5}\n", isolate["id"].get<std::string>(),
                 Printable(isolate["name"], 16), isolate["host_pid"].get<int>(), row.share,
                 isolate.contains("memory_bytes")
                     ? fmt::format("{:.1f}M", isolate["memory_bytes"].get<double>() / (1 << 20))
                     : "-",
                 isolate.contains("pids") ? isolate["pids"].dump() : "-");
    }
    std::fflush(stdout);
    if (!OutputStatus().ok()) break;
  }
  return absl::OkStatus();
}

using Show = std::function<absl::Status(const OverviewWords&, Client&)>;

CommandAction Action(std::shared_ptr<OverviewWords> words, Show show) {
  return [words = std::move(words), show = std::move(show)](const std::vector<std::string>& extra) {
    if (!extra.empty()) {
      return Complain(InvalidError("this command takes options only, not \"{}\"", extra[0]));
    }
    absl::StatusOr<Client> client = Client::Connect(words->socket);
    if (!client.ok()) return Complain(client.status());
    const absl::Status shown = show(*words, *client);
    return shown.ok() ? 0 : Complain(shown);
  };
}

absl::Status ShowText(const OverviewWords& words, const absl::StatusOr<std::string>& text,
                      const std::function<void(const Json&)>& print) {
  if (!text.ok()) return text.status();
  const Json json = Json::parse(*text);
  if (words.json) {
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    print(json);
  }
  return absl::OkStatus();
}

}  // namespace

CommandAction AddPsCommand(CLI::App& app) {
  auto words = std::make_shared<OverviewWords>();
  CLI::App* ps = app.add_subcommand("ps", "List isolates");
  AddSocketOption(*ps, words->socket);
  ps->add_flag("-a,--all", words->all, "Also show the latest that have ended");
  ps->add_flag("--json", words->json, "As JSON");
  return Action(words, [](const OverviewWords& options, Client& client) {
    return ShowText(options, client.List(options.all), PrintList);
  });
}

CommandAction AddTreeCommand(CLI::App& app) {
  auto words = std::make_shared<OverviewWords>();
  CLI::App* tree = app.add_subcommand("tree", "The daemon, its workers, and their namespaces");
  Describe(
      *tree,
      "brood tree\n\n"
      "Every process below the daemon: its pid outside and inside, its user outside and inside,\n"
      "and for each isolate its cgroup and the namespaces it has of its own (by inode; \"host\" "
      "where\n"
      "it shares the host's). Parked workers are only counted.");
  AddSocketOption(*tree, words->socket);
  tree->add_flag("-a,--all", words->all, "Also show each parked worker");
  tree->add_flag("--json", words->json, "As JSON");
  return Action(words, [](const OverviewWords& options, Client& client) {
    return ShowText(options, client.Tree(options.all),
                    [](const Json& json) { PrintTree(json, "", ""); });
  });
}

CommandAction AddTopCommand(CLI::App& app) {
  auto words = std::make_shared<OverviewWords>();
  CLI::App* top = app.add_subcommand("top", "What isolates use, refreshed");
  AddSocketOption(*top, words->socket);
  top->add_option("--interval", words->interval, "Time between two refreshes (default 1s)")
      ->type_name("DURATION");
  top->add_option("-n,--rounds", words->rounds, "How many times to show it (default: until Ctrl-C)")
      ->type_name("N");
  return Action(words, Top);
}

CommandAction AddStatsCommand(CLI::App& app) {
  auto words = std::make_shared<OverviewWords>();
  CLI::App* stats = app.add_subcommand("stats", "What the pool has done, and what isolates use");
  AddSocketOption(*stats, words->socket);
  stats->add_flag("--json", words->json, "As JSON");
  return Action(words, [](const OverviewWords& options, Client& client) {
    return ShowText(options, client.Stats(), PrintStats);
  });
}

}  // namespace brood
