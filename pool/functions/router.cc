// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/router.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "pool/functions/call_id.h"
#include "pool/functions/openapi.h"
#include "pool/functions/start_call.h"
#include "pool/http/later.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::string_view kFunctions = "/functions/";
constexpr std::string_view kCalls = "/calls/";
constexpr std::string_view kLogs = "/logs";
constexpr std::string_view kReload = "/reload";
constexpr std::string_view kDeploy = "/deploy";
constexpr std::string_view kNotKept =
    "this daemon keeps no calls: its configuration names no file for them ([http] calls)\n";
constexpr std::string_view kWarmNote =
    "an isolate serves many calls, and what one leaves in its memory, its files and its processes "
    "is there for the next";

bool IsBelow(std::string_view path, std::string_view top) {
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

// The daemon's owner, over its own socket, may do all that it does. Others whom that socket lets in
// (group) are to functions as anybody else.
bool IsOwner(const HttpConnection& connection) {
  const std::optional<uid_t> user = connection.user();
  return user && (*user == 0 || *user == geteuid());
}

std::string Printable(std::string text) {
  for (char& c : text) {
    if (c < ' ' || c > '~' || c == '#') c = '?';
  }
  return text;
}

// What stands behind `top` and a slash.
std::string Below(std::string_view path, std::string_view top) {
  return path.size() <= top.size() + 1 ? "" : std::string(path.substr(top.size() + 1));
}

int StatusOfError(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kUnavailable:
      return 503;
    default:
      return 400;
  }
}

// The value of the first of the query's parts of that name.
std::optional<std::string_view> QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    const std::size_t equals = std::min(part.find('='), part.size());
    if (part.substr(0, equals) == name) return part.substr(std::min(equals + 1, part.size()));
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return std::nullopt;
}

void Plain(HttpConnection& connection, int status, std::string_view text, Fields fields = {}) {
  fields.emplace_back("Content-Type", "text/plain");
  connection.Answer(status, std::move(fields), text);
}

void Forbid(HttpConnection& connection, std::string_view why) {
  Plain(connection, 403, fmt::format("{}\n", why),
        {{"WWW-Authenticate", "Bearer realm=\"brood\", error=\"insufficient_scope\""}});
}

}  // namespace

std::shared_ptr<FunctionPool> Router::Prepare(FunctionOptions function) {
  const auto before = Find(function.name);
  auto metrics = before ? before->shared_metrics() : std::make_shared<FunctionMetrics>();
  auto log = [log = options_.log, name = function.name](std::string_view why,
                                                        std::string_view err) {
    const bool ended = !why.empty();
    if (!log) return;
    log({.function = name,
         .end = ended ? "process" : "",
         .message = std::string(why),
         .err = std::string(err)});
  };
  auto prepared = std::make_shared<FunctionPool>(pool_, timers_, std::move(function),
                                                 std::move(metrics), std::move(log));
  if (!draining_) prepared->Open();
  return prepared;
}

void Router::Put(const std::shared_ptr<FunctionPool>& function, std::function<void()> gone) {
  std::shared_ptr<FunctionPool>& place = functions_[function->options().name];
  if (place) place->Retire(std::move(gone));
  place = function;
}

void Router::Remove(const std::string& name, std::function<void()> gone) {
  const auto found = functions_.find(name);
  if (found == functions_.end()) return;
  found->second->Retire(std::move(gone));
  functions_.erase(found);
  options_.calls_log->Forget(name);
}

void Router::Drain() {
  draining_ = true;
  options_.calls_log->Close();
  for (auto& [name, function] : functions_) function->Close();
}

void Router::Close() {
  for (auto& [name, function] : functions_) function->Close();
}

std::shared_ptr<Exchange> Router::Handle(HttpConnection& connection, const RequestHead& head) {
  if (!tokens_ || IsOwner(connection) || head.path == "/healthz")
    return HandleKnown(connection, head, nullptr);
  // Of a token, functions hear the name alone.
  const Tokens::Found found =
      tokens_->Find(FindField(head.fields, "Authorization"), EpochMs() / 1000);
  if (found.token == nullptr) {
    Plain(connection, 401,
          found.why.empty() ? "a token is needed (Authorization: Bearer ...)\n"
                            : fmt::format("{}\n", found.why),
          {{"WWW-Authenticate",
            found.why.empty() ? std::string("Bearer realm=\"brood\"")
                              : fmt::format("Bearer realm=\"brood\", error=\"invalid_token\", "
                                            "error_description=\"{}\"",
                                            found.why)}});
    return nullptr;
  }
  RequestHead own = head;
  std::erase_if(own.fields,
                [](const auto& field) { return EqualsIgnoringCase(field.first, "Authorization"); });
  own.user = found.token->name;
  return HandleKnown(connection, own, found.token);
}

// `token`: null where none is needed.
std::shared_ptr<Exchange> Router::HandleKnown(HttpConnection& connection, const RequestHead& head,
                                              const Token* token) {
  const bool reads = head.method == "GET" || head.method == "HEAD";
  const std::string_view path = head.path;
  if (path == "/functions" || path == "/healthz" || path == "/metrics" || path == "/openapi.json" ||
      path == "/calls") {
    if (token != nullptr && !token->admin) {
      Forbid(connection, "this token is not for administration");
    } else if (!reads) {
      Plain(connection, 405, "this can only be read\n", {{"Allow", "GET, HEAD"}});
    } else if (path == "/healthz") {
      Plain(connection, draining_ ? 503 : 200, draining_ ? "draining\n" : "ok\n");
    } else if (path == "/metrics") {
      connection.Answer(200, {{"Content-Type", "text/plain; version=0.0.4"}}, Metrics());
    } else if (path == "/calls" && QueryValue(head.query, "kept") == "1") {
      if (options_.calls != nullptr) return options_.calls->TellAll(connection);
      Plain(connection, 501, kNotKept);
    } else if (path == "/calls") {
      connection.Answer(200, {{"Content-Type", "application/json"}}, options_.running->ToJson());
    } else if (path == "/openapi.json") {
      connection.Answer(200, {{"Content-Type", "application/json"}},
                        DescribeOpenApi(options_.version));
    } else {
      connection.Answer(200, {{"Content-Type", "application/json"}}, Describe());
    }
    return nullptr;
  }
  if (path.starts_with(kCalls)) return HandleKept(connection, head, token);
  const bool logs = IsBelow(path, kLogs);
  if (logs || IsBelow(path, kReload) || IsBelow(path, kDeploy)) {
    // Also where no tokens are needed: others' words, and what is served, are not everybody's.
    if (IsOwner(connection) || (token != nullptr && token->admin)) {
      return logs ? HandleLogs(connection, head) : HandleChange(connection, head);
    }
    Forbid(connection,
           "only the daemon's owner, over its own socket, or a token for administration "
           "can do this");
    return nullptr;
  }
  if (!path.starts_with(kFunctions)) {
    Plain(connection, 404,
          "there is no such path; a function is called at /functions/NAME, and /openapi.json tells "
          "what else there is\n");
    return nullptr;
  }
  // Behind its name the path is the function's own.
  const std::size_t end = std::min(path.find('/', kFunctions.size()), path.size());
  const std::string_view name = path.substr(kFunctions.size(), end - kFunctions.size());
  if (token != nullptr && !Tokens::MayCall(*token, name)) {
    Forbid(connection, fmt::format("this token is not for function \"{}\"", name));
    return nullptr;
  }
  if (const auto function = Find(name)) {
    return HandleCall(connection, head, path.substr(end), function);
  }
  Plain(connection, 404,
        fmt::format("there is no function \"{}\"; /functions lists those that there are\n", name));
  return nullptr;
}

std::size_t Router::running() const {
  std::size_t count = 0;
  for (const auto& [name, function] : functions_) count += function->running();
  return count;
}

std::shared_ptr<FunctionPool> Router::Find(std::string_view name) const {
  const auto found = functions_.find(name);
  return found == functions_.end() ? nullptr : found->second;
}

std::shared_ptr<Exchange> Router::HandleCall(HttpConnection& connection, const RequestHead& head,
                                             std::string_view path,
                                             const std::shared_ptr<FunctionPool>& function) {
  // The query of a function that is a server is its own.
  const bool proxied = function->options().runtime == FunctionRuntime::kHttp;
  const auto asked = proxied ? std::nullopt : QueryValue(head.query, "async");
  const bool async = asked == "1" || ListsToken(head.fields, "Prefer", "respond-async");
  if (asked && asked != "1" && asked != "0") {
    Plain(connection, 400, fmt::format("async takes 0 or 1, not \"{}\"\n", *asked));
  } else if (async && options_.calls == nullptr) {
    Plain(connection, 501, kNotKept);
  } else if (async && head.method != "POST") {
    Plain(connection, 405, "an asynchronous call is made with POST\n", {{"Allow", "POST"}});
  } else if ((draining_ && async) || (options_.memory_is_short && options_.memory_is_short())) {
    // Who has come in time is still served; calls that can wait are for the next daemon.
    Plain(connection, 503, draining_ ? "the daemon is shutting down\n" : "memory is short\n",
          {{"Retry-After", "1"}});
  } else if (async) {
    return options_.calls->Accept(connection, head, path, function->options());
  } else {
    RequestHead named = head;
    named.id = RandomDigits();
    options_.running->Add(named, function->options().name);
    const auto call = StartCall(pool_, timers_, function, connection, named, path, options_.log);
    options_.running->Started(named.id, call);
    return call;
  }
  return nullptr;
}

std::shared_ptr<Exchange> Router::HandleLogs(HttpConnection& connection, const RequestHead& head) {
  const std::string name = Below(head.path, kLogs);
  if (head.method != "GET" && head.method != "HEAD") {
    Plain(connection, 405, "this can only be read\n", {{"Allow", "GET, HEAD"}});
  } else if (!name.empty() && !Find(name)) {
    Plain(connection, 404, fmt::format("there is no function \"{}\"\n", name));
  } else {
    const bool follow = head.method == "GET" && QueryValue(head.query, "follow") == "1";
    return options_.calls_log->Tell(connection, name, follow && !draining_);
  }
  return nullptr;
}

// The daemon's owner alone may deploy: a file of functions says what runs here, with what of the
// host bound into it.
std::shared_ptr<Exchange> Router::HandleChange(HttpConnection& connection,
                                               const RequestHead& head) {
  using Kind = ServedChange::Kind;
  const bool deploy = IsBelow(head.path, kDeploy);
  ServedChange change{Kind::kReload, Below(head.path, deploy ? kDeploy : kReload)};
  const bool named = !change.subject.empty();
  if (!deploy && head.method == "POST") {
    change.kind = named ? Kind::kRenew : Kind::kReload;
  } else if (deploy && !named && head.method == "POST") {
    change.kind = Kind::kDeploy;
  } else if (deploy && named && head.method == "DELETE") {
    change.kind = Kind::kUndeploy;
  } else {
    Plain(connection, 405, "see /openapi.json for what can be asked for here\n",
          {{"Allow", deploy && named ? "DELETE" : "POST"}});
    return nullptr;
  }
  if (deploy && !IsOwner(connection)) {
    Plain(connection, 403, "only the daemon's owner can deploy, over its own socket\n");
  } else if (change.kind == Kind::kRenew && !Find(change.subject)) {
    Plain(connection, 404, fmt::format("there is no function \"{}\"\n", change.subject));
  } else if (!options_.change || draining_) {
    Plain(connection, 503, "the daemon is shutting down\n");
  } else {
    return std::make_shared<LaterAnswer>(
        connection, [this, change = std::move(change)](const std::shared_ptr<LaterAnswer>& later,
                                                       std::string body) mutable {
          if (change.kind == Kind::kDeploy) change.subject = std::move(body);
          options_.change(std::move(change), [later](const absl::StatusOr<std::string>& changed) {
            HttpConnection* const to = later->Take();
            if (to == nullptr) return;
            if (changed.ok())
              return to->Answer(200, {{"Content-Type", "application/json"}}, *changed);
            Plain(*to, StatusOfError(changed.status().code()),
                  fmt::format("{}\n", Message(changed.status())));
          });
        });
  }
  return nullptr;
}

// `token`: null where none is needed. To who may not call a function, its calls are not there.
std::shared_ptr<Exchange> Router::HandleKept(HttpConnection& connection, const RequestHead& head,
                                             const Token* token) {
  const std::string id = head.path.substr(kCalls.size());
  const bool reads = head.method == "GET" || head.method == "HEAD";
  const auto may_know = [tokens = tokens_, token](const std::string& function) {
    return token == nullptr || token->admin || Tokens::MayCall(*token, function);
  };
  if (!reads && head.method != "DELETE") {
    Plain(connection, 405, "a call can be read, or ended with DELETE\n",
          {{"Allow", "GET, HEAD, DELETE"}});
    return nullptr;
  }
  if (!reads) {
    const std::string* const function = options_.running->FunctionOf(id);
    const std::string* const kept = options_.calls ? options_.calls->FunctionOf(id) : nullptr;
    if (function == nullptr && kept != nullptr && may_know(*kept)) {
      return options_.calls->Cancel(connection, id);
    }
    if (function == nullptr || !may_know(*function)) {
      Plain(connection, 404, "no call with that id waits or runs\n");
    } else {
      options_.running->Kill(id);
      connection.Answer(204, {}, "");
    }
    return nullptr;
  }
  if (options_.calls == nullptr) {
    Plain(connection, 501, kNotKept);
    return nullptr;
  }
  return options_.calls->Tell(connection, id, may_know);
}

// Calls beyond what it can run at once are better queued where another node may take them.
std::string Router::TellBalancer(const std::string& name) const {
  if (draining_) return "drain";
  std::size_t places = 0;
  if (name.empty()) {
    for (const auto& [each, function] : functions_) places += function->options().concurrency;
  } else if (const auto function = Find(name)) {
    places = function->options().concurrency;
    const std::size_t all = pool_.Stats().running;
    const std::size_t free =
        options_.max_running - std::min<std::size_t>(options_.max_running, all);
    places = std::min(places, function->running() + free);
  } else {
    return fmt::format("down#there is no function \"{}\"", Printable(name));
  }
  places = std::min<std::size_t>(places, options_.max_running);
  if (options_.memory_is_short && options_.memory_is_short()) places = 1;
  // None would mean any number.
  return fmt::format("ready up maxconn:{}", std::max<std::size_t>(places, 1));
}

std::string Router::Describe() const {
  auto list = nlohmann::ordered_json::array();
  for (const auto& [name, function] : functions_) {
    const FunctionOptions& options = function->options();
    list.push_back({{"name", name},
                    {"mode", FunctionModeName(options.mode)},
                    {"runtime", FunctionRuntimeName(options.runtime)},
                    {"concurrency", options.concurrency},
                    {"queue", options.queue},
                    {"timeout_seconds", std::chrono::duration<double>(options.timeout).count()},
                    {"max_body_bytes", options.max_body},
                    {"primed", function->primed()},
                    {"running", function->running()},
                    {"queued", function->queued()}});
    auto& told = list.back();
    const CallLog::Recent recent = options_.calls_log->Of(name);
    const FunctionMetrics& metrics = function->metrics();
    told["ready"] = function->ready();
    if (const std::string problem = function->problem(); !problem.empty()) {
      told["problem"] = problem;
    }
    told["calls"] = metrics.accepted;
    told["calls_per_second"] = recent.per_second;
    if (recent.p50_us) told["p50_us"] = *recent.p50_us;
    if (recent.p99_us) told["p99_us"] = *recent.p99_us;
    if (metrics.cpu_us) told["cpu_us"] = *metrics.cpu_us;
    if (metrics.memory_peak_bytes) told["memory_peak_bytes"] = *metrics.memory_peak_bytes;
    if (const CallReport* const error = recent.last_error) {
      told["last_error"] = {{"time", static_cast<double>(error->time_ms) / 1000},
                            {"id", error->id},
                            {"end", error->end},
                            {"message", error->message}};
    }
    if (options.mode == FunctionMode::kWarm) told["note"] = kWarmNote;
  }
  return list.dump(2) + "\n";
}

namespace {

std::string MetricHead(std::string_view name, std::string_view type, std::string_view help) {
  return fmt::format("# HELP brood_{0} {1}\n# TYPE brood_{0} {2}\n", name, help, type);
}

// Of the whole pool, in which functions of one template share slots.
void AddSlots(const SlotStats& slots, std::string& out) {
  out += MetricHead("workers_in_slots_total", "counter",
                    "Workers by where their namespaces came from.");
  out +=
      fmt::format("brood_workers_in_slots_total{{namespaces=\"used_again\"}} {}\n", slots.reused);
  out += fmt::format("brood_workers_in_slots_total{{namespaces=\"made\"}} {}\n", slots.made);
  out +=
      MetricHead("slots_given_up_total", "counter", "Slots whose namespaces were not used again.");
  for (std::size_t fault = 1; fault < kSlotFaults; ++fault) {
    out += fmt::format("brood_slots_given_up_total{{reason=\"{}\"}} {}\n",
                       SlotFaultName(static_cast<SlotFault>(fault)), slots.given_up[fault]);
  }
  out += MetricHead("slots_idle", "gauge", "Slots that have namespaces and no worker.");
  out += fmt::format("brood_slots_idle {}\n", slots.idle);
}

}  // namespace

std::string Router::Metrics() {
  std::string out;
  const auto metric = [&](std::string_view name, std::string_view type, std::string_view help,
                          const auto& print) {
    out += MetricHead(name, type, help);
    for (auto& [label, function] : functions_) {
      print(fmt::format("brood_{}", name), fmt::format("function=\"{}\"", label), *function);
    }
  };
  const auto number = [&](std::string_view name, std::string_view type, std::string_view help,
                          const auto& get) {
    metric(name, type, help, [&](const std::string& full, const std::string& labels, auto& f) {
      out += fmt::format("{}{{{}}} {}\n", full, labels, get(f));
    });
  };
  const auto counts = [&](std::string_view name, std::string_view help, std::string_view label,
                          const auto& get) {
    metric(name, "counter", help, [&](const std::string& full, const std::string& labels, auto& f) {
      for (const auto& [key, count] : get(f)) {
        out += fmt::format("{}{{{},{}=\"{}\"}} {}\n", full, labels, label, key, count);
      }
    });
  };
  const auto histogram = [&](std::string_view name, std::string_view help, const auto& get) {
    metric(name, "histogram", help,
           [&](const std::string& full, const std::string& labels, auto& f) {
             get(f).Print(full, labels, out);
           });
  };
  number("calls_accepted_total", "counter", "Calls that were accepted.",
         [](auto& f) { return f.metrics().accepted; });
  counts(
      "answers_total", "Answers to calls.", "status",
      [](auto& f) -> auto& { return f.metrics().answers; });
  number("callers_gone_total", "counter", "Callers who left before their answer.",
         [](auto& f) { return f.metrics().gone; });
  number("answers_broken_total", "counter", "Answers broken off after they had begun.",
         [](auto& f) { return f.metrics().broken; });
  counts(
      "paths_total", "Calls by how their isolate came to be.", "path",
      [](auto& f) -> auto& { return f.metrics().paths; });
  counts(
      "misses_total", "Calls that found no primed worker.", "reason",
      [](auto& f) -> auto& { return f.metrics().misses; });
  number("primed_lost_total", "counter", "Primed workers that ended before a call.",
         [](auto& f) { return f.metrics().primed_lost; });
  number("primed", "gauge", "Workers that are primed.", [](auto& f) { return f.primed(); });
  number("running", "gauge", "Calls that run.", [](auto& f) { return f.running(); });
  number("queued", "gauge", "Calls that wait.", [](auto& f) { return f.queued(); });
  histogram(
      "queue_seconds", "Time until a call may run.",
      [](auto& f) -> auto& { return f.metrics().queue; });
  histogram(
      "spawn_seconds", "Time until the function has its isolate.",
      [](auto& f) -> auto& { return f.metrics().spawn; });
  histogram(
      "run_seconds", "Time until it has ended.", [](auto& f) -> auto& { return f.metrics().run; });
  histogram(
      "total_seconds", "Time from the request's head to the answer.",
      [](auto& f) -> auto& { return f.metrics().total; });
  AddSlots(pool_.Stats().slots, out);
  if (options_.calls == nullptr) return out;
  const auto gauge = [&](std::string_view name, std::string_view help, std::size_t value) {
    out += MetricHead(name, "gauge", help) + fmt::format("brood_{} {}\n", name, value);
  };
  gauge("async_waiting", "Calls on disk that wait.", options_.calls->waiting());
  gauge("async_running", "Calls on disk that run.", options_.calls->running());
  return out;
}

}  // namespace brood
