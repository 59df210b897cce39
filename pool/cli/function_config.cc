// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/function_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "pool/cli/function_program.h"
#include "pool/cli/isolation_options.h"
#include "pool/cli/private_file.h"
#include "pool/cli/values.h"
#include "pool/functions/http_runtime.h"
#include "pool/functions/lambda_environment.h"
#include "pool/functions/lambda_runtime.h"
#include "pool/http/fields.h"
#include "spawn/base/status.h"
#include "spawn/launch/forked.h"

namespace brood {
namespace {

constexpr std::size_t kMostSecret = 64U << 10;

absl::Status ParseWords(CLI::App& app, const std::vector<std::string>& words) {
  app.set_help_flag();
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    return InvalidError("{}", error.what());
  }
  return absl::OkStatus();
}

bool IsVariableName(std::string_view name) {
  return !name.empty() && name.find_first_of(" \t") == std::string_view::npos;
}

// In place of what it had before.
void SetVariable(const std::string& name, std::string_view value, std::vector<std::string>& env) {
  std::erase_if(env, [&](const std::string& old) { return old.starts_with(name + "="); });
  env.push_back(fmt::format("{}={}", name, value));
}

// "NAME=value" as it is, "NAME" with the value that this process has, and what a file has of
// either: a line each, empty ones and those that begin with # left out.
absl::Status AddVariable(const std::string& entry, std::string_view where,
                         std::vector<std::string>& env) {
  const std::size_t equals = entry.find('=');
  const std::string name = entry.substr(0, equals);
  if (!IsVariableName(name))
    return InvalidError("{} has \"{}\", which is not NAME=value or NAME", where, entry);
  const char* const own = equals == std::string::npos ? std::getenv(name.c_str()) : nullptr;
  if (equals == std::string::npos && own == nullptr) {
    return InvalidError("{} has {} without a value, and brood serve has no such variable itself",
                        where, name);
  }
  SetVariable(name, own != nullptr ? own : entry.substr(equals + 1), env);
  return absl::OkStatus();
}

absl::Status AddVariablesOf(const std::string& path, std::vector<std::string>& env) {
  std::ifstream file(path);
  if (!file) return ErrnoError(errno, "reading env-file {}", path);
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with('#')) continue;
    BROOD_RETURN_IF_ERROR(
        AddVariable(line, fmt::format("env-file {}, line {}", path, number), env));
  }
  return absl::OkStatus();
}

// "NAME=FILE": the variable's value is what the file has.
absl::Status AddSecret(const std::string& entry, const std::string& base,
                       std::vector<std::string>& env) {
  const std::size_t equals = entry.find('=');
  const std::string name = entry.substr(0, equals);
  if (equals == std::string::npos || !IsVariableName(name) || equals + 1 == entry.size()) {
    return InvalidError("secret takes NAME=FILE, not \"{}\"", entry);
  }
  BROOD_ASSIGN_OR_RETURN(
      std::string value,
      ReadPrivateFile("the secret", PathFrom(base, entry.substr(equals + 1)), kMostSecret));
  if (value.ends_with('\n')) value.pop_back();
  if (value.find('\0') != std::string::npos) {
    return InvalidError("the secret {} has a byte of value 0, which no variable can have",
                        entry.substr(equals + 1));
  }
  SetVariable(name, value, env);
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

absl::Status TakeRuntime(const std::string& text, FunctionOptions& options) {
  if (text == "stdin") return absl::OkStatus();
  if (text != "lambda" && text != "http") {
    return InvalidError("runtime takes stdin, lambda or http, not \"{}\"", text);
  }
  if (options.cgi) {
    return InvalidError(
        "cgi is for functions that answer on their stdout, not for runtime = \"{}\"; leave it out",
        text);
  }
  if (text == "http") {
    options.runtime = FunctionRuntime::kHttp;
    return absl::OkStatus();
  }
  options.runtime = FunctionRuntime::kLambda;
  options.max_body = LambdaRuntime::kMaxPayload;
  options.cgi = true;  // what stands between it and the call writes a head (lambda_runtime.h)
  return absl::OkStatus();
}

std::string Seconds(std::chrono::nanoseconds time) {
  return fmt::format("{}s", std::chrono::duration<double>(time).count());
}

}  // namespace

void AddFunctionOptions(CLI::App& app, FunctionWords& words) {
  FunctionOptions& options = words.options;
  app.add_option(
         "--mode", words.mode,
         fmt::format(
             "How far a call's isolate is prepared ahead: cold, not at all; parked, "
             "isolated; primed, with the command started and waiting for its stdin; "
             "forked, as a clone of a process that has already loaded; warm, in one that has "
             "served calls before, as runtime = \"lambda\" is unless told otherwise, and \"http\" "
             "always (default {})",
             words.mode))
      ->type_name("cold|parked|primed|forked|warm");
  app.add_option(
         "--runtime", words.runtime,
         fmt::format("How the command gets a call: stdin, on its stdin, answering on its stdout; "
                     "lambda, as a custom runtime of AWS Lambda (see LAMBDA); http, as an HTTP "
                     "server on $PORT (see HTTP SERVERS) (default {})",
                     words.runtime))
      ->type_name("stdin|lambda|http");
  app.add_option("--input", words.input,
                 "What the command finds on its stdin: body, that of the request; request, all of "
                 "it as HTTP has it, the request line and the fields first; with runtime = "
                 "\"stdin\" (default body)")
      ->type_name("body|request");
  app.add_option("--event", words.event,
                 "What the event of a call is: body, the request's body, and the response is the "
                 "answer's; api-gateway-1.0 or api-gateway-2.0, the whole request and answer as "
                 "API Gateway has them; with runtime = \"lambda\" (default body)")
      ->type_name("body|api-gateway-1.0|api-gateway-2.0");
  app.add_option(
         "--port", options.port,
         fmt::format("The port of its 127.0.0.1 that the command listens on, as $PORT tells "
                     "it; with runtime = \"http\" (default {})",
                     options.port))
      ->type_name("PORT")
      ->check(CLI::Range(1, 65535).description(""));
  app.add_option("--max-inflight", options.max_inflight,
                 fmt::format("Calls at once in one isolate, each over a connection of its own; "
                             "with runtime = \"http\" (default {})",
                             options.max_inflight))
      ->type_name("N")
      ->check(CLI::Range(1, static_cast<int>(kMaxEndpointSockets)).description(""));
  app.add_flag("--reads-bodies", options.reads_bodies,
               "The command reads each request's body to its end, whatever it answers, as servers "
               "of Node.js, Go and most frameworks do: its connection is kept after one, which a "
               "server that leaves a body unread would take for the next request; with runtime = "
               "\"http\" (default false)");
  app.add_option("--ready-path", options.ready_path,
                 "The command is ready once a GET of this path is answered with a status from 200 "
                 "to 399; with runtime = \"http\" (default: once it listens)")
      ->type_name("PATH");
  app.add_option(
         "--min", options.min,
         fmt::format("Workers kept ready: parked for the modes parked, primed and warm, and "
                     "started for primed, forked and warm, where it is 1 unless told otherwise "
                     "(default {})",
                     options.min))
      ->type_name("N")
      ->check(CLI::Range(0, 4096).description(""));
  app.add_option(
         "--max", words.max,
         "Most workers, whether parked, being made or running (default 4096); not with template")
      ->type_name("N")
      ->check(CLI::Range(1, 65536).description(""));
  app.add_option("--max-calls", options.max_calls,
                 "Calls that a warm isolate serves, before it ends and another takes its place "
                 "(default any number)")
      ->type_name("N")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 32).description(""));
  app.add_option("--max-age", words.max_age,
                 "How old a warm isolate may become, which ends once it is idle then (default any "
                 "age)")
      ->type_name("DURATION");
  app.add_option("--idle", words.idle,
                 fmt::format("How long a warm isolate waits for a call before it ends, as long as "
                             "there are more than min (default {})",
                             Seconds(options.idle)))
      ->type_name("DURATION");
  app.add_option("--concurrency", options.concurrency,
                 fmt::format("Calls that may run at once (default {})", options.concurrency))
      ->type_name("N")
      ->check(CLI::Range(1, 65536).description(""));
  app.add_option(
         "--queue", options.queue,
         fmt::format("Calls that may wait; more are answered 429 (default {})", options.queue))
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 20).description(""));
  app.add_option(
         "--timeout", words.timeout,
         fmt::format("How long a call may run; then it is killed and answered 504 (default {})",
                     Seconds(options.timeout)))
      ->type_name("DURATION");
  app.add_option("--queue-timeout", words.queue_timeout,
                 fmt::format("How long a call may wait; then it is answered 503 (default {})",
                             Seconds(options.queue_timeout)))
      ->type_name("DURATION");
  app.add_option("--max-body", words.max_body,
                 fmt::format("Longest body of a request; a longer one is answered 413; with "
                             "runtime = \"lambda\" {}M at most (default {}M)",
                             LambdaRuntime::kMaxPayload >> 20, options.max_body >> 20))
      ->type_name("SIZE");
  app.add_option(
         "--env-file", words.env_files,
         "File with variables for the environment, a NAME=VALUE or NAME a line; may be given "
         "again, and env wins")
      ->type_name("FILE");
  app.add_option("--secret", words.secrets,
                 "Variable whose value is a file's content, without a newline at its end; nobody "
                 "but its owner may read the file, and only the command sees it; may be given "
                 "again")
      ->type_name("NAME=FILE");
  app.add_option("--cwd", options.command.cwd,
                 fmt::format("Working directory (default {})", options.command.cwd))
      ->type_name("DIR");
  app.add_flag("--cgi", options.cgi,
               "The output begins with header lines and an empty line, as a CGI script's; a Status "
               "line sets the answer's status (default false)");
  app.add_option("--template", options.template_name,
                 "Isolate it as this template says (default: as the keys of this table say)")
      ->type_name("NAME");
}

void AddHttpOptions(CLI::App& app, HttpWords& words) {
  HttpOptions& options = words.options;
  app.add_option("--max-connections", options.max_connections,
                 fmt::format("Most connections, which use at most half of the daemon's "
                             "descriptors; to accept one more, the connection idle longest is "
                             "closed, or else the new one is answered 503 (default {})",
                             options.max_connections))
      ->type_name("N")
      ->check(CLI::Range(1, 16384).description(""));
  app.add_option("--header-timeout", words.header_timeout,
                 fmt::format("How long a request's head may take to arrive (default {})",
                             Seconds(options.header_timeout)))
      ->type_name("DURATION");
  app.add_option("--body-timeout", words.body_timeout,
                 fmt::format("How long a caller may pause within a body it sends or an answer it "
                             "reads (default {})",
                             Seconds(options.body_timeout)))
      ->type_name("DURATION");
  app.add_option("--idle-timeout", words.idle_timeout,
                 fmt::format("How long a connection is kept between two requests (default {})",
                             Seconds(options.idle_timeout)))
      ->type_name("DURATION");
  app.add_option("--tokens", options.tokens,
                 "File of who may call, by tokens (see TOKENS); SIGHUP reads it again (default: "
                 "everyone who reaches the address)")
      ->type_name("FILE");
  app.add_flag("--open", options.open,
               "Serve without tokens even where others than this machine's own processes reach the "
               "address (default false)");
  app.add_option("--agent", options.agent,
                 "Where HAProxy may ask how many calls this node takes (see MANY NODES; default: "
                 "nowhere)")
      ->type_name("ADDRESS:PORT");
  app.add_flag("--share", options.share,
               "Let another daemon listen on the same port, as one that takes over while this one "
               "ends its calls (SO_REUSEPORT; default false)");
  app.add_option("--calls", options.calls,
                 "SQLite file for asynchronous calls, made if it does not exist (default: none, "
                 "and such calls are answered 501)")
      ->type_name("FILE");
  app.add_option("--keep", words.keep,
                 fmt::format("How long the result of such a call is kept (default {})",
                             Seconds(options.keep)))
      ->type_name("DURATION");
  app.add_option(
         "--max-calls", options.max_calls,
         fmt::format("Most such calls waiting and running; more are answered 429 (default {})",
                     options.max_calls))
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 24).description(""));
}

// No call may meet another's.
absl::Status FitFunction(const Spec& spec, FunctionOptions& options) {
  for (const NamespaceKind kind :
       {NamespaceKind::kPid, NamespaceKind::kMount, NamespaceKind::kIpc, NamespaceKind::kUser}) {
    if (!spec.is_new(kind)) {
      return InvalidError("a function needs a {} namespace of its own", NamespaceName(kind));
    }
  }
  if (!spec.use_cgroup) return InvalidError("a function needs a cgroup of its own");
  if (spec.root.mode == RootMode::kReadWrite) {
    return InvalidError(
        "a function may not write to a root that outlives it: use root-mode overlay or ro");
  }
  BROOD_RETURN_IF_ERROR(CheckProgram(spec, options.command));
  if (options.runtime == FunctionRuntime::kLambda) return FitLambda(spec, options);
  if (options.runtime == FunctionRuntime::kHttp) return FitHttp(spec, options);
  return absl::OkStatus();
}

absl::StatusOr<ServeFunction> ParseServeFunction(const std::string& name,
                                                 const std::vector<std::string>& words,
                                                 const std::vector<std::string>& command,
                                                 const std::vector<std::string>& env,
                                                 const std::string& base) {
  if (!IsFunctionName(name)) {
    return InvalidError("\"{}\" is not a name: use at most 64 letters, digits, _ and -", name);
  }
  if (command.empty()) return InvalidError("it needs a command");
  ServeFunction out;
  for (const std::vector<std::string>* const each : {&words, &command, &env}) {
    out.words.insert(out.words.end(), each->begin(), each->end());
    out.words.emplace_back();  // parts them
  }
  FunctionWords typed;
  CLI::App app;
  AddFunctionOptions(app, typed);
  SpecOptions spec_options;
  const bool own = std::none_of(words.begin(), words.end(), [](const std::string& word) {
    return word.starts_with("--template=");
  });
  spec_options.AddTo(app);
  spec_options.SetBase(base);
  BROOD_RETURN_IF_ERROR(ParseWords(app, words));
  if (!own) {
    CLI::App function_app;
    FunctionWords other;
    AddFunctionOptions(function_app, other);
    for (const CLI::Option* const option : app.get_options()) {
      const std::string& key = option->get_lnames().empty() ? "" : option->get_lnames().front();
      if (option->count() == 0 || function_app.get_option_no_throw("--" + key) != nullptr) continue;
      return InvalidError("{} is the template's to say; leave out one of them", key);
    }
  }
  out.options = std::move(typed.options);
  FunctionOptions& options = out.options;
  options.name = name;
  const auto given = [&](const char* option) { return app.get_option(option)->count() > 0; };
  BROOD_RETURN_IF_ERROR(TakeRuntime(typed.runtime, options));
  const bool lambda = options.runtime == FunctionRuntime::kLambda;
  const bool http = options.runtime == FunctionRuntime::kHttp;
  if (!given("--mode") && (lambda || http)) typed.mode = "warm";
  if (http && typed.mode != "warm") {
    return InvalidError("a function that is a server is warm: leave out mode = \"{}\"", typed.mode);
  }
  if (given("--event") && !lambda) {
    return InvalidError("event is without effect unless runtime is lambda");
  }
  if (typed.event == "api-gateway-1.0") {
    options.event = LambdaEvent::kApiGateway1;
  } else if (typed.event == "api-gateway-2.0") {
    options.event = LambdaEvent::kApiGateway2;
  } else if (typed.event != "body") {
    return InvalidError("event takes body, api-gateway-1.0 or api-gateway-2.0, not \"{}\"",
                        typed.event);
  }
  for (const char* const key : {"--port", "--max-inflight", "--ready-path", "--reads-bodies"}) {
    if (!given(key) || http) continue;
    return InvalidError("{} is without effect unless runtime is http", key + 2);
  }
  if (!options.ready_path.empty() && !IsRequestTarget(options.ready_path)) {
    return InvalidError("ready-path takes a path that begins with a slash, not \"{}\"",
                        options.ready_path);
  }
  if (given("--input") && options.runtime != FunctionRuntime::kStdin) {
    return InvalidError("input is without effect unless runtime is stdin");
  }
  if (typed.input == "request") {
    options.input = FunctionInput::kRequest;
  } else if (typed.input != "body") {
    return InvalidError("input takes body or request, not \"{}\"", typed.input);
  }
  if (typed.mode == "cold") {
    options.mode = FunctionMode::kCold;
  } else if (typed.mode == "primed") {
    options.mode = FunctionMode::kPrimed;
  } else if (typed.mode == "forked") {
    options.mode = FunctionMode::kForked;
  } else if (typed.mode == "warm") {
    options.mode = FunctionMode::kWarm;
    if (!lambda && !http) {
      return InvalidError(
          "a function that reads its stdin sees the end of it with its first call: mode = \"warm\" "
          "is for runtime = \"lambda\" and \"http\"");
    }
    if (!given("--min")) options.min = 1;
  } else if (typed.mode != "parked") {
    return InvalidError("mode takes cold, parked, primed, forked or warm, not \"{}\"", typed.mode);
  }
  for (const char* const key : {"--max-calls", "--max-age", "--idle"}) {
    if (!given(key) || options.mode == FunctionMode::kWarm) continue;
    return InvalidError("{} is without effect unless mode is warm", key + 2);
  }
  if (options.mode == FunctionMode::kCold && given("--min")) {
    return InvalidError("min is without effect where mode is cold, since no workers are kept");
  }
  if (!own && options.mode == FunctionMode::kParked && given("--min")) {
    return InvalidError("min is without effect with template, which keeps parked workers itself");
  }
  if (!own && given("--max")) {
    return InvalidError("max is without effect with template, whose max-workers counts");
  }
  const bool forked = options.mode == FunctionMode::kForked;
  if (forked && !own) {
    return InvalidError("a forked function is isolated by its own keys: leave out template");
  }
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.timeout, options.timeout));
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.queue_timeout, options.queue_timeout));
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.max_age, options.max_age));
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.idle, options.idle));
  if (!typed.max_body.empty()) {
    BROOD_ASSIGN_OR_RETURN(options.max_body, ParseSize(typed.max_body));
  }
  if (lambda && options.max_body > LambdaRuntime::kMaxPayload) {
    return InvalidError("with runtime = \"lambda\", max-body is at most {} bytes",
                        LambdaRuntime::kMaxPayload);
  }
  options.command.argv = command;
  options.command.env = DefaultEnvironment();
  for (const std::string& path : typed.env_files) {
    BROOD_RETURN_IF_ERROR(AddVariablesOf(PathFrom(base, path), options.command.env));
  }
  for (const std::string& entry : env) {
    BROOD_RETURN_IF_ERROR(AddVariable(entry, "env", options.command.env));
  }
  for (const std::string& entry : typed.secrets) {
    BROOD_RETURN_IF_ERROR(AddSecret(entry, base, options.command.env));
  }
  // What files and this process say of them may be another the next time.
  out.words.insert(out.words.end(), options.command.env.begin(), options.command.env.end());
  BROOD_RETURN_IF_ERROR(Validate(options.command));
  if (!own) return out;
  TemplateOptions tmpl;
  // A name that no table [template.NAME] is likely to have.
  tmpl.name = options.template_name = "function:" + name;
  BROOD_ASSIGN_OR_RETURN(tmpl.spec, spec_options.Resolve());
  BROOD_RETURN_IF_ERROR(FitFunction(tmpl.spec, options));
  if (forked && lambda) {
    return InvalidError("a custom runtime asks for its call itself, so it cannot be forked");
  }
  if (forked) {
    BROOD_RETURN_IF_ERROR(SplitForked(tmpl.spec).status());
    options.spec = tmpl.spec;
  }
  tmpl.parked = forked || options.mode == FunctionMode::kCold ? 0 : options.min;
  tmpl.max_workers = typed.max;
  tmpl.zygotes = 1;
  out.own_template = std::move(tmpl);
  return out;
}

absl::Status ParseHttpWords(const std::vector<std::string>& words, HttpOptions& http,
                            const std::string& base) {
  HttpWords typed;
  CLI::App app;
  AddHttpOptions(app, typed);
  BROOD_RETURN_IF_ERROR(ParseWords(app, words));
  http = typed.options;
  if (!http.agent.empty()) {
    HttpOptions at;
    BROOD_RETURN_IF_ERROR(ParseHttpAddress(http.agent, at));
    if (!at.path.empty() || at.inherited) {
      return InvalidError("agent takes ADDRESS:PORT, as 127.0.0.1:9081, not \"{}\"", http.agent);
    }
  }
  http.tokens = PathFrom(base, http.tokens);
  http.calls = PathFrom(base, http.calls);
  for (const char* const name : {"--keep", "--max-calls"}) {
    if (!http.calls.empty() || app.get_option(name)->count() == 0) continue;
    return InvalidError("{} is without effect without calls, the file that stores them", name + 2);
  }
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.header_timeout, http.header_timeout));
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.body_timeout, http.body_timeout));
  BROOD_RETURN_IF_ERROR(TakeDuration(typed.keep, http.keep));
  return TakeDuration(typed.idle_timeout, http.idle_timeout);
}

absl::Status ParseHttpAddress(const std::string& text, HttpOptions& http) {
  if (text == "inherited") {
    http.inherited = true;
    return absl::OkStatus();
  }
  if (const std::string_view unix_prefix = "unix:"; text.starts_with(unix_prefix)) {
    http.path = text.substr(unix_prefix.size());
  } else if (text.starts_with('/')) {
    http.path = text;
  }
  if (!http.path.empty()) return absl::OkStatus();
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) {
    return InvalidError(
        "--http takes ADDRESS:PORT, as 127.0.0.1:8080 or :8080, the path of a Unix socket, or "
        "inherited, not \"{}\"",
        text);
  }
  std::string address = text.substr(0, colon);
  if (address.starts_with('[') && address.ends_with(']')) {
    address = address.substr(1, address.size() - 2);
  }
  // Names are not looked up: what they lead to is not this machine's to say, but for this one.
  if (address == "localhost") address = "127.0.0.1";
  BROOD_ASSIGN_OR_RETURN(const std::uint64_t port,
                         ParseCount("--http", text.substr(colon + 1), 0, 65535));
  http.address = std::move(address);
  http.port = static_cast<std::uint16_t>(port);
  return absl::OkStatus();
}

}  // namespace brood
