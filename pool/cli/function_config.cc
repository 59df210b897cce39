#include "pool/cli/function_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>

#include "pool/cli/isolation_options.h"
#include "pool/cli/values.h"
#include "spawn/status.h"

namespace brood {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::Status ParseWords(CLI::App& app, const std::vector<std::string>& words) {
  app.set_help_flag();
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    return Error(kInvalid, "{}", error.what());
  }
  return absl::OkStatus();
}

bool IsFunctionName(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::isalnum(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; });
}

absl::Status TakeDuration(const std::string& text, std::chrono::nanoseconds& out) {
  if (text.empty()) return absl::OkStatus();
  BROOD_ASSIGN_OR_RETURN(out, ParseDuration(text));
  return absl::OkStatus();
}

}  // namespace

// No call may meet another's.
absl::Status CheckFunctionFences(const Spec& spec) {
  for (const NamespaceKind kind :
       {NamespaceKind::kPid, NamespaceKind::kMount, NamespaceKind::kIpc, NamespaceKind::kUser}) {
    if (!spec.is_new(kind)) {
      return Error(kInvalid, "a function needs a {} namespace of its own", NamespaceName(kind));
    }
  }
  if (!spec.use_cgroup) return Error(kInvalid, "a function needs a cgroup of its own");
  if (spec.root.mode == RootMode::kReadWrite) {
    return Error(kInvalid,
                 "a function may not write to a root that outlives it; use overlay or ro");
  }
  return absl::OkStatus();
}

absl::StatusOr<ServeFunction> ParseServeFunction(const std::string& name,
                                                 const std::vector<std::string>& words,
                                                 const std::vector<std::string>& command,
                                                 const std::vector<std::string>& env) {
  if (!IsFunctionName(name)) {
    return Error(kInvalid, "\"{}\" is no name: letters, digits, _ and -, at most 64", name);
  }
  if (command.empty()) return Error(kInvalid, "it needs a command");
  ServeFunction out;
  FunctionOptions& options = out.options;
  options.name = name;
  std::string mode = "parked";
  std::string timeout, queue_timeout, max_body;
  std::uint32_t max = 0;
  CLI::App app;
  app.add_option("--template", options.template_name);
  app.add_option("--mode", mode);
  app.add_option("--min", options.min)->check(CLI::Range(0, 4096));
  app.add_option("--max", max)->check(CLI::Range(1, 65536));
  app.add_option("--concurrency", options.concurrency)->check(CLI::Range(1, 65536));
  app.add_option("--queue", options.queue)->check(CLI::Range(0, 1 << 20));
  app.add_option("--timeout", timeout);
  app.add_option("--queue-timeout", queue_timeout);
  app.add_option("--max-body", max_body);
  app.add_option("--cwd", options.command.cwd);
  app.add_flag("--cgi", options.cgi);
  FenceOptions fences;
  const bool own = std::none_of(words.begin(), words.end(), [](const std::string& word) {
    return word.starts_with("--template=");
  });
  if (own) fences.AddTo(app);
  BROOD_RETURN_IF_ERROR(ParseWords(app, words));
  if (mode == "cold") {
    options.mode = FunctionMode::kCold;
  } else if (mode == "primed") {
    options.mode = FunctionMode::kPrimed;
  } else if (mode != "parked") {
    return Error(kInvalid, "mode knows cold, parked and primed, not \"{}\"", mode);
  }
  BROOD_RETURN_IF_ERROR(TakeDuration(timeout, options.timeout));
  BROOD_RETURN_IF_ERROR(TakeDuration(queue_timeout, options.queue_timeout));
  if (!max_body.empty()) {
    BROOD_ASSIGN_OR_RETURN(options.max_body, ParseSize(max_body));
  }
  options.command.argv = command;
  options.command.env = DefaultEnvironment();
  for (const std::string& entry : env) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Error(kInvalid, "env has \"{}\", which is not NAME=value", entry);
    }
    const std::string head = entry.substr(0, equals + 1);
    std::erase_if(options.command.env,
                  [&](const std::string& old) { return old.starts_with(head); });
    options.command.env.push_back(entry);
  }
  BROOD_RETURN_IF_ERROR(Validate(options.command));
  if (!own) return out;
  TemplateOptions tmpl;
  // A name that no table [template.NAME] is likely to have.
  tmpl.name = options.template_name = "function:" + name;
  BROOD_ASSIGN_OR_RETURN(tmpl.spec, fences.Resolve());
  BROOD_RETURN_IF_ERROR(CheckFunctionFences(tmpl.spec));
  tmpl.parked = options.mode == FunctionMode::kCold ? 0 : options.min;
  tmpl.max_workers = max;
  tmpl.zygotes = 1;
  out.own_template = std::move(tmpl);
  return out;
}

absl::Status ParseHttpWords(const std::vector<std::string>& words, HttpOptions& http) {
  std::string header, body, idle;
  CLI::App app;
  app.add_option("--max-connections", http.max_connections)->check(CLI::Range(1, 16384));
  app.add_option("--header-timeout", header);
  app.add_option("--body-timeout", body);
  app.add_option("--idle-timeout", idle);
  BROOD_RETURN_IF_ERROR(ParseWords(app, words));
  BROOD_RETURN_IF_ERROR(TakeDuration(header, http.header_timeout));
  BROOD_RETURN_IF_ERROR(TakeDuration(body, http.body_timeout));
  return TakeDuration(idle, http.idle_timeout);
}

absl::Status ParseHttpAddress(const std::string& text, HttpOptions& http) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return Error(kInvalid, "--http takes ADDRESS:PORT, as 127.0.0.1:8080, not \"{}\"", text);
  }
  std::string address = text.substr(0, colon);
  if (address.starts_with('[') && address.ends_with(']')) {
    address = address.substr(1, address.size() - 2);
  }
  BROOD_ASSIGN_OR_RETURN(const std::uint64_t port,
                         ParseCount("--http", text.substr(colon + 1), 0, 65535));
  http.address = std::move(address);
  http.port = static_cast<std::uint16_t>(port);
  return absl::OkStatus();
}

}  // namespace brood
