// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/serve_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

// The library's header trips over our warnings, not we.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include "pool/cli/isolation_options.h"
#include "pool/cli/values.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::array<ServeSetting, 7> kSettings{{
    {"socket", "PATH",
     "Where the daemon listens (default $BROOD_SOCKET or /run/brood/brood.sock; for an ordinary "
     "user $XDG_RUNTIME_DIR/brood/brood.sock)"},
    {"group", "NAME", "Let this group use the daemon too"},
    {"max-running", "N", "Commands that may run at once (default 1024); more wait"},
    {"max-unclaimed", "N",
     "Ended detached commands whose outcome and output are kept until they are waited for (default "
     "1024); beyond that, the one that ended first is dropped"},
    {"drain", "DURATION",
     "How long running commands and calls may go on after SIGTERM, before they are killed (default "
     "30s); 0 for as long as they take"},
    {"deployed", "DIR",
     "Where brood deploy notes what it has added, as links to its files; made if it does not exist "
     "(default: none, and nothing can be deployed)"},
    {"log-size", "SIZE", "Output kept of each detached command (default 256K)"},
}};

// A key of a template's table as words: key = "x" is --key=x, key = true is --key.
absl::Status AppendWords(std::string_view key, const toml::node& value,
                         std::vector<std::string>& words) {
  if (const auto* array = value.as_array()) {
    for (const toml::node& each : *array) BROOD_RETURN_IF_ERROR(AppendWords(key, each, words));
    return absl::OkStatus();
  }
  if (const auto flag = value.value_exact<bool>()) {
    if (*flag) words.push_back(fmt::format("--{}", key));
    return absl::OkStatus();
  }
  if (const auto text = value.value_exact<std::string>()) {
    words.push_back(fmt::format("--{}={}", key, *text));
  } else if (const auto whole = value.value_exact<std::int64_t>()) {
    words.push_back(fmt::format("--{}={}", key, *whole));
  } else if (const auto number = value.value_exact<double>()) {
    words.push_back(fmt::format("--{}={}", key, *number));
  } else {
    return InvalidError("{} must be a string, a number, true, false, or an array of these", key);
  }
  return absl::OkStatus();
}

// `app` has the options that the table's keys are. `false` leaves a flag out; for anything else it
// would be a value, and no option takes that one.
absl::Status CheckKey(const std::string& key, const toml::node& value, const CLI::App& app) {
  const CLI::Option* const option = app.get_option_no_throw("--" + key);
  if (option == nullptr || key == "help") return InvalidError("there is no key {}", key);
  const bool is_flag = option->get_items_expected_max() == 0;
  const auto is_bool = [](const toml::node& node) { return node.value_exact<bool>().has_value(); };
  const auto* array = value.as_array();
  const bool has_bool =
      is_bool(value) || (array != nullptr && std::any_of(array->begin(), array->end(), is_bool));
  if (is_flag && !is_bool(value)) return InvalidError("{} is true or false, not a value", key);
  if (is_flag || !has_bool) return absl::OkStatus();
  return InvalidError("{} takes a value ({}), not true or false", key, option->get_type_name());
}

// An array of strings, or one string split as a shell would.
absl::StatusOr<std::vector<std::string>> StringsOf(std::string_view key, const toml::node& value) {
  if (const auto text = value.value_exact<std::string>()) return SplitWords(*text);
  std::vector<std::string> out;
  const toml::array* const array = value.as_array();
  if (array == nullptr) return InvalidError("{} must be an array of strings", key);
  for (const toml::node& each : *array) {
    const auto text = each.value_exact<std::string>();
    if (!text) return InvalidError("{} must be an array of strings", key);
    out.push_back(*text);
  }
  return out;
}

// What one key says, and the line it stands on.
struct KeyWords {
  std::string key;
  toml::source_position at;
  std::vector<std::string> words;
};

// A table's keys, in the order of the file, which is how people think of them.
class TableKeys {
 public:
  // `options` has the options that the keys are; those in `lists` are lists of strings instead.
  // When one of them is wrong already, `line` becomes its own.
  static absl::StatusOr<TableKeys> Of(const toml::table& table, const CLI::App& options,
                                      const std::vector<std::string_view>& lists,
                                      toml::source_position& line) {
    TableKeys out;
    out.lists_ = lists;
    for (const CLI::Option* const option : options.get_options()) {
      for (const std::string& name : option->get_lnames()) out.names_.push_back(name);
    }
    std::vector<std::pair<toml::source_position, std::string>> keys;
    for (const auto& [key, value] : table) keys.emplace_back(key.source().begin, key.str());
    std::sort(keys.begin(), keys.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [at, key] : keys) {
      const toml::node& value = *table.get(key);
      KeyWords& one = out.keys_.emplace_back();
      one.key = key;
      one.at = at;
      absl::Status taken;
      if (out.IsList(one)) {
        absl::StatusOr<std::vector<std::string>> strings = StringsOf(one.key, value);
        taken = strings.status();
        if (taken.ok()) one.words = *std::move(strings);
      } else {
        taken = CheckKey(one.key, value, options);
        if (taken.ok()) taken = AppendWords(one.key, value, one.words);
      }
      if (taken.ok()) continue;
      line = one.at;
      return taken;
    }
    return out;
  }

  // The words of all keys that are options, and those of a list.
  std::vector<std::string> Options() const {
    std::vector<std::string> words;
    for (const KeyWords& one : keys_) {
      if (&one != without_ && !IsList(one)) {
        words.insert(words.end(), one.words.begin(), one.words.end());
      }
    }
    return words;
  }
  std::vector<std::string> List(std::string_view key) const {
    for (const KeyWords& one : keys_) {
      if (&one != without_ && one.key == key) return one.words;
    }
    return {};
  }

  // What `parse` makes of them, which asks for the words above. What is wrong is told with the key,
  // and `line` becomes that of it: of the key without which all would be well, or else of an option
  // without which not the same would be wrong.
  absl::Status Parse(const std::function<absl::Status(const TableKeys&)>& parse,
                     toml::source_position& line) {
    absl::Status wrong = parse(*this);
    if (wrong.ok()) return wrong;
    const KeyWords* to_blame = nullptr;
    for (const KeyWords& one : keys_) {
      without_ = &one;
      const absl::Status now = parse(*this);
      if (now.ok()) {
        to_blame = &one;
        break;
      }
      if (to_blame == nullptr && !IsList(one) && now != wrong) to_blame = &one;
    }
    without_ = nullptr;
    // Without a list that is needed something else is wrong: the sentence has its first word.
    for (const KeyWords& one : keys_) {
      const bool named = IsList(one) && !one.words.empty() && !one.words.front().empty() &&
                         Message(wrong).find(one.words.front()) != std::string_view::npos;
      if (to_blame == nullptr && named) to_blame = &one;
    }
    if (to_blame == nullptr) return wrong;
    line = to_blame->at;
    const std::string message = InFileWords(std::string(Message(wrong)));
    if (message.find(to_blame->key) != std::string::npos) return Error(wrong.code(), "{}", message);
    return Error(wrong.code(), "{}: {}", to_blame->key, message);
  }

 private:
  // Options are keys here: "--root-mode" is root-mode.
  std::string InFileWords(std::string message) const {
    for (std::size_t at = message.find("--"); at != std::string::npos;
         at = message.find("--", at + 1)) {
      const std::size_t end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz-", at + 2);
      const std::string name =
          message.substr(at + 2, end == std::string::npos ? end : end - at - 2);
      if (std::find(names_.begin(), names_.end(), name) != names_.end()) message.erase(at, 2);
    }
    return message;
  }

  bool IsList(const KeyWords& one) const {
    return std::find(lists_.begin(), lists_.end(), one.key) != lists_.end();
  }

  std::vector<KeyWords> keys_;
  std::vector<std::string_view> lists_;
  std::vector<std::string> names_;  // of all options
  const KeyWords* without_ = nullptr;
};

absl::StatusOr<ServeTemplate> ParseTemplateWords(const std::string& name,
                                                 const std::vector<std::string>& words,
                                                 const std::string& base) {
  ServeTemplate out;
  out.words = words;
  out.options.name = name;
  CLI::App app;
  app.set_help_flag();
  SpecOptions spec_options;
  spec_options.AddTo(app);
  spec_options.SetBase(base);
  AddTemplateOptions(app, out.options);
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    return InvalidError("{}", error.what());
  }
  BROOD_ASSIGN_OR_RETURN(out.options.spec, spec_options.Resolve());
  return out;
}

absl::StatusOr<ServeTemplate> ParseTemplateTable(const std::string& name, const toml::table& table,
                                                 const std::string& base,
                                                 toml::source_position& line) {
  CLI::App app;
  TemplateOptions options;
  SpecOptions spec_options;
  spec_options.AddTo(app);
  AddTemplateOptions(app, options);
  BROOD_ASSIGN_OR_RETURN(TableKeys keys, TableKeys::Of(table, app, {}, line));
  absl::StatusOr<ServeTemplate> out;
  const auto parse = [&](const TableKeys& left) {
    out = ParseTemplateWords(name, left.Options(), base);
    return out.status();
  };
  BROOD_RETURN_IF_ERROR(keys.Parse(parse, line));
  return out;
}

absl::StatusOr<ServeFunction> ParseFunctionTable(const std::string& name, const toml::table& table,
                                                 const std::string& base,
                                                 toml::source_position& line) {
  CLI::App app;
  FunctionWords words;
  SpecOptions spec_options;
  AddFunctionOptions(app, words);
  spec_options.AddTo(app);
  BROOD_ASSIGN_OR_RETURN(TableKeys keys, TableKeys::Of(table, app, {"command", "env"}, line));
  absl::StatusOr<ServeFunction> out;
  const auto parse = [&](const TableKeys& left) {
    out = ParseServeFunction(name, left.Options(), left.List("command"), left.List("env"), base);
    return out.status();
  };
  BROOD_RETURN_IF_ERROR(keys.Parse(parse, line));
  return out;
}

absl::Status ParseHttpTable(const toml::table& table, const std::string& base, HttpOptions& http,
                            toml::source_position& line) {
  CLI::App app;
  HttpWords words;
  AddHttpOptions(app, words);
  BROOD_ASSIGN_OR_RETURN(TableKeys keys, TableKeys::Of(table, app, {}, line));
  return keys.Parse(
      [&](const TableKeys& left) { return ParseHttpWords(left.Options(), http, base); }, line);
}

}  // namespace

absl::StatusOr<std::chrono::nanoseconds> ParseDrain(const std::string& text) {
  if (text == "0") return std::chrono::nanoseconds(0);
  return ParseDuration(text);
}

namespace {

absl::Status TakeSetting(const std::string& key, const toml::node& value, ServeConfig& config) {
  const auto text = value.value_exact<std::string>();
  const auto number = value.value_exact<std::int64_t>();
  if (key == "socket" && text) {
    config.socket = *text;
  } else if (key == "deployed" && text) {
    config.deployed = PathFrom(config.base, *text);
  } else if (key == "group" && text) {
    config.group = *text;
  } else if (key == "max-running" && number) {
    BROOD_ASSIGN_OR_RETURN(const std::uint64_t count,
                           ParseCount("max-running", fmt::to_string(*number), 1, 1U << 20));
    config.max_running = static_cast<std::uint32_t>(count);
  } else if (key == "max-unclaimed" && number) {
    BROOD_ASSIGN_OR_RETURN(const std::uint64_t count,
                           ParseCount("max-unclaimed", fmt::to_string(*number), 1, kMaxUnclaimed));
    config.max_unclaimed = static_cast<std::uint32_t>(count);
  } else if (key == "drain" && (text || number == 0)) {
    BROOD_ASSIGN_OR_RETURN(config.drain, ParseDrain(text.value_or("0")));
  } else if (key == "log-size" && text) {
    BROOD_ASSIGN_OR_RETURN(config.log_bytes, ParseSize(*text));
  } else if (key == "socket" || key == "group" || key == "log-size" || key == "drain" ||
             key == "deployed") {
    return InvalidError("{} must be a string", key);
  } else if (key == "max-running" || key == "max-unclaimed") {
    return InvalidError("{} must be a whole number", key);
  } else {
    return InvalidError(
        "there is no setting \"{}\"; there are socket, group, max-running, max-unclaimed, "
        "log-size, drain, deployed, and tables [template.NAME], [function.NAME] and [http]",
        key);
  }
  return absl::OkStatus();
}

// Every table of [template.NAME] or [function.NAME], in the order of the file. `take` is told what
// to name the line of, should it fail.
absl::Status ForEachTable(
    std::string_view kind, const toml::node& all, toml::source_position& line,
    const std::function<absl::Status(const std::string& name, const toml::table& table)>& take) {
  if (all.as_table() == nullptr) return InvalidError("{0}s are tables: [{0}.NAME]", kind);
  std::vector<std::pair<toml::source_position, std::string>> names;
  for (const auto& [key, value] : *all.as_table()) {
    names.emplace_back(key.source().begin, key.str());
  }
  std::sort(names.begin(), names.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [at, name] : names) {
    line = at;
    const toml::table* const table = (*all.as_table())[name].as_table();
    if (table == nullptr) return InvalidError("a {0} is a table: [{0}.{1}]", kind, name);
    if (const absl::Status taken = take(name, *table); !taken.ok()) {
      return Error(taken.code(), "{} {}: {}", kind, name, Message(taken));
    }
  }
  return absl::OkStatus();
}

// A key of the file itself. What is wrong is at `line`.
absl::Status TakeKey(const std::string& key, const toml::node& value, ServeConfig& config,
                     toml::source_position& line) {
  if (key == "template") {
    return ForEachTable(key, value, line, [&](const auto& name, const auto& table) -> absl::Status {
      BROOD_ASSIGN_OR_RETURN(ServeTemplate parsed,
                             ParseTemplateTable(name, table, config.base, line));
      config.templates.push_back(std::move(parsed));
      return absl::OkStatus();
    });
  }
  if (key == "function") {
    return ForEachTable(key, value, line, [&](const auto& name, const auto& table) -> absl::Status {
      BROOD_ASSIGN_OR_RETURN(ServeFunction parsed,
                             ParseFunctionTable(name, table, config.base, line));
      config.functions.push_back(std::move(parsed));
      return absl::OkStatus();
    });
  }
  if (key != "http") return TakeSetting(key, value, config);
  if (value.as_table() == nullptr) return InvalidError("http is a table: [http]");
  return ParseHttpTable(*value.as_table(), config.base, config.http, line);
}

}  // namespace

std::span<const ServeSetting> ServeSettings() { return kSettings; }

void AddTemplateOptions(CLI::App& app, TemplateOptions& options) {
  const std::string workers = "Workers";
  app.add_option("--parked", options.parked, "Workers kept ready (default 16)")
      ->type_name("N")
      ->group(workers);
  app.add_option("--zygotes", options.zygotes,
                 "Zygotes that clone workers (default: one for every two processors, at most 4)")
      ->type_name("N")
      ->group(workers);
  app.add_option("--max-workers", options.max_workers,
                 "Most workers, whether parked, being made or running (default 4096; more if "
                 "parked needs it)")
      ->type_name("N")
      ->group(workers);
}

absl::StatusOr<ServeTemplate> ParseServeTemplate(const std::string& name,
                                                 const std::vector<std::string>& words) {
  absl::StatusOr<ServeTemplate> parsed = ParseTemplateWords(name, words, "");
  if (parsed.ok()) return parsed;
  return Error(parsed.status().code(), "template {}: {}", name, Message(parsed.status()));
}

absl::StatusOr<ServeConfig> ParseServeConfig(std::string_view text, const std::string& file) {
  ServeConfig config;
  config.base = std::filesystem::path(file).parent_path().string();
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return InvalidError("{}, line {}: {}", file, error.source().begin.line, error.description());
  }
  for (const auto& [key, value] : root) {
    toml::source_position line = key.source().begin;
    const absl::Status taken = TakeKey(std::string(key.str()), value, config, line);
    if (!taken.ok()) {
      return Error(taken.code(), "{}, line {}: {}", file, line.line, Message(taken));
    }
  }
  return config;
}

absl::StatusOr<ServeConfig> ReadServeFile(const std::string& file) {
  std::ifstream in(file);
  if (!in) return ErrnoError(errno, "reading the configuration {}", file);
  std::stringstream text;
  text << in.rdbuf();
  return ParseServeConfig(text.str(), file);
}

std::vector<std::string> SplitWords(const std::string& text) { return CLI::detail::split_up(text); }

}  // namespace brood
