#include "pool/cli/serve_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

// The library's header trips over our warnings, not we.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include "pool/cli/isolation_options.h"
#include "pool/cli/values.h"
#include "spawn/status.h"

namespace brood {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

constexpr std::array<ServeSetting, 5> kSettings{{
    {"socket", "PATH",
     "Where the daemon listens (default $BROOD_SOCKET or /run/brood/brood.sock; for an ordinary "
     "user $XDG_RUNTIME_DIR/brood/brood.sock)"},
    {"group", "NAME", "Let this group use the daemon, too"},
    {"max-running", "N", "Commands that may run at once (default 1024); more wait"},
    {"max-unclaimed", "N",
     "Detached commands that have ended and nobody has waited for, whose outcome and output are "
     "kept (default 1024); beyond that the one that ended first is forgotten"},
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
    return Error(kInvalid, "{} must be a string, a number, true, false, or an array of such", key);
  }
  return absl::OkStatus();
}

// `false` leaves a flag out. For anything else it would be a value, and no option takes that one.
absl::Status CheckFalse(const std::string& key, const toml::node& value) {
  const auto is_false = [](const toml::node& node) {
    return !node.value_exact<bool>().value_or(true);
  };
  const auto* array = value.as_array();
  if (!is_false(value) &&
      (array == nullptr || std::none_of(array->begin(), array->end(), is_false)))
    return absl::OkStatus();
  CLI::App app;
  TemplateOptions options;
  FenceOptions fences;
  fences.AddTo(app);
  AddTemplateOptions(app, options);
  const CLI::Option* const option = app.get_option_no_throw("--" + key);
  if (option == nullptr) return Error(kInvalid, "there is no option {}", key);
  if (option->get_items_expected_max() == 0) return absl::OkStatus();
  return Error(kInvalid, "{} takes a value ({}), not false; leave it out", key,
               option->get_type_name());
}

// The words of one key, and the line it stands on.
struct KeyWords {
  toml::source_position at;
  std::vector<std::string> words;
};

std::vector<std::string> Joined(const std::vector<KeyWords>& keys, const KeyWords* without) {
  std::vector<std::string> words;
  for (const KeyWords& key : keys) {
    if (&key != without) words.insert(words.end(), key.words.begin(), key.words.end());
  }
  return words;
}

// A template of its table. What is wrong with it is told with the line of a key: the one without
// which it would not be wrong, or not in the same way.
absl::StatusOr<ServeTemplate> ParseTable(const std::string& name, const toml::table& table,
                                         toml::source_position& line) {
  std::vector<KeyWords> keys;
  for (const auto& [key, value] : table) {
    const std::string word(key.str());
    KeyWords& words = keys.emplace_back(KeyWords{key.source().begin, {}});
    absl::Status taken = CheckFalse(word, value);
    if (taken.ok()) taken = AppendWords(word, value, words.words);
    if (taken.ok()) continue;
    line = words.at;
    return Error(taken.code(), "template {}: {}", name, Message(taken));
  }
  // In the order of the file, which is how people think of them.
  std::sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
  absl::StatusOr<ServeTemplate> parsed = ParseServeTemplate(name, Joined(keys, nullptr));
  if (parsed.ok()) return parsed;
  for (const KeyWords& key : keys) {
    if (ParseServeTemplate(name, Joined(keys, &key)).status() == parsed.status()) continue;
    line = key.at;
    break;
  }
  return parsed;
}

absl::Status TakeSetting(const std::string& key, const toml::node& value, ServeConfig& config) {
  const auto text = value.value_exact<std::string>();
  const auto number = value.value_exact<std::int64_t>();
  if (key == "socket" && text) {
    config.socket = *text;
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
  } else if (key == "log-size" && text) {
    BROOD_ASSIGN_OR_RETURN(config.log_bytes, ParseSize(*text));
  } else if (key == "socket" || key == "group" || key == "log-size") {
    return Error(kInvalid, "{} must be a string", key);
  } else if (key == "max-running" || key == "max-unclaimed") {
    return Error(kInvalid, "{} must be a whole number", key);
  } else {
    return Error(kInvalid,
                 "there is no setting \"{}\"; there are socket, group, max-running, max-unclaimed, "
                 "log-size, and tables [template.NAME], [function.NAME] and [http]",
                 key);
  }
  return absl::OkStatus();
}

// An array of strings, or one string split as a shell would.
absl::StatusOr<std::vector<std::string>> StringsOf(std::string_view key, const toml::node& value) {
  if (const auto text = value.value_exact<std::string>()) return SplitWords(*text);
  std::vector<std::string> out;
  const toml::array* const array = value.as_array();
  if (array == nullptr) return Error(kInvalid, "{} must be an array of strings", key);
  for (const toml::node& each : *array) {
    const auto text = each.value_exact<std::string>();
    if (!text) return Error(kInvalid, "{} must be an array of strings", key);
    out.push_back(*text);
  }
  return out;
}

absl::StatusOr<ServeFunction> ParseFunctionTable(const std::string& name,
                                                 const toml::table& table) {
  std::vector<std::string> words;
  std::vector<std::string> command;
  std::vector<std::string> env;
  for (const auto& [key, value] : table) {
    const std::string_view word = key.str();
    if (word == "command") {
      BROOD_ASSIGN_OR_RETURN(command, StringsOf(word, value));
    } else if (word == "env") {
      BROOD_ASSIGN_OR_RETURN(env, StringsOf(word, value));
    } else {
      if (word != "cgi" && value.value_exact<bool>()) {
        BROOD_RETURN_IF_ERROR(CheckFalse(std::string(word), value));
      }
      BROOD_RETURN_IF_ERROR(AppendWords(word, value, words));
    }
  }
  return ParseServeFunction(name, words, command, env);
}

// The table [http], or that of all functions.
absl::Status TakeFunctions(const std::string& name, const toml::table& table, ServeConfig& config) {
  if (name == "http") {
    std::vector<std::string> words;
    for (const auto& [key, value] : table) {
      BROOD_RETURN_IF_ERROR(AppendWords(key.str(), value, words));
    }
    return ParseHttpWords(words, config.http);
  }
  for (const auto& [key, value] : table) {
    const std::string function(key.str());
    if (value.as_table() == nullptr)
      return Error(kInvalid, "a function is a table: [function.{}]", function);
    absl::StatusOr<ServeFunction> parsed = ParseFunctionTable(function, *value.as_table());
    if (!parsed.ok()) {
      return Error(parsed.status().code(), "function {}: {}", function, Message(parsed.status()));
    }
    config.functions.push_back(*std::move(parsed));
  }
  return absl::OkStatus();
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
  app.add_option(
         "--max-workers", options.max_workers,
         "Parked, being made and running together (default 4096, more if parked asks for it)")
      ->type_name("N")
      ->group(workers);
}

absl::StatusOr<ServeTemplate> ParseServeTemplate(const std::string& name,
                                                 const std::vector<std::string>& words) {
  ServeTemplate out;
  out.words = words;
  out.options.name = name;
  CLI::App app;
  app.set_help_flag();
  FenceOptions fences;
  fences.AddTo(app);
  AddTemplateOptions(app, out.options);
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    return Error(kInvalid, "template {}: {}", name, error.what());
  }
  absl::StatusOr<Spec> spec = fences.Resolve();
  if (!spec.ok())
    return Error(spec.status().code(), "template {}: {}", name, Message(spec.status()));
  out.options.spec = *std::move(spec);
  return out;
}

absl::StatusOr<ServeConfig> ParseServeConfig(std::string_view text, const std::string& file) {
  ServeConfig config;
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return Error(kInvalid, "{}, line {}: {}", file, error.source().begin.line, error.description());
  }
  for (const auto& [key, value] : root) {
    const std::string name(key.str());
    absl::Status taken;
    if (name == "function" || name == "http") {
      taken = value.as_table() != nullptr ? TakeFunctions(name, *value.as_table(), config)
                                          : Error(kInvalid, "{} is a table: [{}]", name,
                                                  name == "http" ? "http" : "function.NAME");
    } else if (name != "template") {
      taken = TakeSetting(name, value, config);
    } else if (value.as_table() == nullptr) {
      taken = Error(kInvalid, "templates are tables: [template.NAME]");
    }
    if (!taken.ok()) {
      return Error(kInvalid, "{}, line {}: {}", file, key.source().begin.line, Message(taken));
    }
  }
  const toml::table* const templates = root["template"].as_table();
  if (templates == nullptr) return config;
  std::vector<std::pair<toml::source_position, ServeTemplate>> found;
  for (const auto& [key, value] : *templates) {
    const std::string name(key.str());
    const toml::table* const table = value.as_table();
    if (table == nullptr) {
      return Error(kInvalid, "{}, line {}: a template is a table: [template.{}]", file,
                   key.source().begin.line, name);
    }
    toml::source_position line = key.source().begin;
    absl::StatusOr<ServeTemplate> parsed = ParseTable(name, *table, line);
    if (!parsed.ok()) {
      return Error(parsed.status().code(), "{}, line {}: {}", file, line.line,
                   Message(parsed.status()));
    }
    found.emplace_back(key.source().begin, *std::move(parsed));
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [at, each] : found) config.templates.push_back(std::move(each));
  return config;
}

std::vector<std::string> SplitWords(const std::string& text) { return CLI::detail::split_up(text); }

}  // namespace brood
