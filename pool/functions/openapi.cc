// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/openapi.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "pool/functions/call_store.h"

namespace brood {
namespace {

using Json = nlohmann::ordered_json;

struct HeaderText {
  std::string_view name;
  std::string_view type;
  std::string_view text;
};

constexpr HeaderText kHeaders[] = {
    {"Allow", "string", "The methods that the path knows."},
    {"Location", "string", "Where to ask for the call's result."},
    {"Retry-After", "integer", "Seconds after which another try is worthwhile."},
    {"WWW-Authenticate", "string",
     "That a bearer token is needed, or what is wrong with this one."},
    {"Trailer", "string", "The fields that follow an answer that is streamed."},
    {"Brood-Call-Id", "string", "The call's id, by which the log names it and /calls knows it."},
    {"Brood-Path", "string",
     "How the isolate was started: primed, parked, forked, zygote or cold; warm: for a call "
     "before."},
    {"Brood-Served-Before", "integer",
     "Of a warm isolate: calls that it has served, and of which it may have kept something."},
    {"Brood-Queue-Us", "integer", "Microseconds until the call could run."},
    {"Brood-Spawn-Us", "integer", "Microseconds from then until the function had its isolate."},
    {"Brood-Run-Us", "integer", "Microseconds from then until it had ended."},
    {"Brood-Total-Us", "integer", "Microseconds from the request's head to the answer."},
    {"Brood-End", "string",
     "Why there is no answer from the function: refused, queue_timeout, timeout, oom, bad_answer, "
     "no_answer, error, or how it ended."},
    {"Brood-Exit-Code", "integer", "The function's exit code, which was not 0."},
    {"Brood-Signal", "integer", "The signal that ended the function."},
    {"X-Amz-Function-Error", "string",
     "Unhandled: a function with Lambda's runtime interface has posted an error, or broken the "
     "interface's rules."},
};

// Which headers an answer may have.
using Names = std::vector<std::string_view>;
const Names kTimes = {"Brood-Call-Id",  "Brood-Path",   "Brood-Served-Before", "Brood-Queue-Us",
                      "Brood-Spawn-Us", "Brood-Run-Us", "Brood-Total-Us"};

Names With(const Names& names, std::initializer_list<std::string_view> more) {
  Names out = names;
  out.insert(out.end(), more);
  return out;
}

Json Reference(std::string_view kind, std::string_view name) {
  return {{"$ref", fmt::format("#/components/{}/{}", kind, name)}};
}

Json Content(std::string_view type, Json schema) {
  return {{std::string(type), {{"schema", std::move(schema)}}}};
}

Json Answer(std::string_view text, const Names& headers, Json content) {
  Json out = {{"description", text}};
  for (const std::string_view name : headers) {
    out["headers"][std::string(name)] = Reference("headers", name);
  }
  out["content"] = std::move(content);
  return out;
}

Json Sentence(std::string_view text, const Names& headers = {}) {
  return Answer(text, headers, Content("text/plain", {{"type", "string"}}));
}

// What any request may be answered, before anybody looks at its path.
Json Refusals() {
  return {
      {"400", Sentence("Not a request, or one that could be read in two ways.")},
      {"401",
       Sentence("Where tokens are needed: there is none, or nobody has it, or it has expired.",
                {"WWW-Authenticate"})},
      {"403", Sentence("The token is not for this.", {"WWW-Authenticate"})},
      {"408", Sentence("The request did not arrive in time.")},
      {"414", Sentence("The target is longer than 4096 bytes.")},
      {"417", Sentence("Another expectation than 100-continue.")},
      {"431", Sentence("The head is longer than 16384 bytes.")},
      {"501", Sentence("A transfer coding other than chunked.")},
      {"505", Sentence("Another version than HTTP/1.0 and HTTP/1.1.")},
  };
}

Json Busy(const Names& headers) {
  return Sentence(
      "No isolate was free in time or could be started, memory is short, there are too many "
      "connections (then without a body), or the daemon is shutting down.",
      With(headers, {"Retry-After"}));
}

Json Operation(std::string_view id, std::string_view summary, const Json& responses) {
  Json all = Refusals();
  all.update(responses);
  return {{"operationId", id}, {"summary", summary}, {"responses", std::move(all)}};
}

// A path that can only be read.
Json Reading(std::string_view id, std::string_view summary, Json good) {
  Json responses = {{"200", std::move(good)},
                    {"405", Sentence("This can only be read.", {"Allow"})},
                    {"503", Busy({})}};
  Json get = Operation(id, summary, responses);
  Json head =
      Operation(fmt::format("{}Head", id), fmt::format("{} Without the body.", summary), responses);
  return {{"get", std::move(get)}, {"head", std::move(head)}};
}

Json LambdaErrorSchema() {
  const Json text = {{"type", "string"}};
  return {{"type", "object"},
          {"properties",
           {{"errorMessage", text},
            {"errorType", text},
            {"stackTrace", {{"type", "array"}, {"items", text}}}}}};
}

// What a function answers, or what is answered in its place.
Json CallAnswers() {
  const Json bytes = {{"type", "string"}, {"format", "binary"}};
  const Names failed = With(kTimes, {"Brood-End"});
  Json out = {
      {"200",
       Answer("The function's output. Of more than 64 KiB, it is streamed in chunks, with the "
              "times as trailers, and broken off if the function fails later.",
              With(kTimes, {"Trailer"}),
              {{"application/octet-stream", {{"schema", bytes}}}, {"*/*", {{"schema", bytes}}}})},
      {"202", Answer("With async=1, or Prefer: respond-async: the call is on disk. It will be made "
                     "at least once, even if "
                     "the daemon is killed.",
                     {"Location"},
                     Content("application/json",
                             {{"type", "object"},
                              {"properties",
                               {{"id", {{"type", "string"}}}, {"state", {{"type", "string"}}}}}}))},
      {"404", Sentence("There is no function of that name.")},
      {"405", Sentence("An asynchronous call is made with POST.", {"Allow"})},
      {"413", Sentence("The body is longer than the function's max-body, or, with async=1, than "
                       "1 MiB.",
                       failed)},
      {"429", Sentence("Too many calls run and wait already.", With(failed, {"Retry-After"}))},
      {"501",
       Sentence("A transfer coding other than chunked, or async=1 where no calls are kept.")},
      {"500", Answer("The function exited with another code than 0, or a signal ended it, or it "
                     "ended without an answer. JSON: the error that a function with Lambda's "
                     "runtime interface has posted, or one made from how the function ended.",
                     With(failed, {"Brood-Exit-Code", "Brood-Signal", "X-Amz-Function-Error"}),
                     {{"text/plain", {{"schema", {{"type", "string"}}}}},
                      {"application/json", {{"schema", LambdaErrorSchema()}}}})},
      {"502", Sentence("The function's output begins with no CGI head, or what it sent is no "
                       "answer, or it closed its connection without one.",
                       failed)},
      {"503", Busy(failed)},
      {"504", Sentence("The function ran longer than its timeout and was killed.", failed)},
      {"507", Sentence("The function ran out of memory and was killed.", failed)},
  };
  for (const std::string_view range : {"1XX", "2XX", "3XX", "4XX", "5XX"}) {
    out[std::string(range)] = Answer(
        "The answer of a function that sets its status: by a CGI head, as a server, or by a "
        "response of API Gateway's form; with fields of its own and without Brood-End.",
        With(kTimes, {"Trailer"}), Content("*/*", bytes));
  }
  return out;
}

// `deeper`: with more of the path behind the function's name.
Json CallPath(bool deeper) {
  Json item = {{"parameters", Json::array({Reference("parameters", "name")})}};
  if (deeper) item["parameters"].push_back(Reference("parameters", "path"));
  const Json bytes = Content("*/*", {{"type", "string"}, {"format", "binary"}});
  for (const std::string_view method :
       {"get", "head", "post", "put", "patch", "delete", "options", "trace"}) {
    Json call = Operation(fmt::format("{}Function{}", method, deeper ? "Path" : ""),
                          "Call a function, which hears of the method, the path behind its name, "
                          "the query and the fields.",
                          CallAnswers());
    if (method == "post" || method == "put" || method == "patch") {
      call["requestBody"] = {{"description", "The function's stdin, event or request body."},
                             {"content", bytes}};
    }
    if (method == "post") call["parameters"] = Json::array({Reference("parameters", "async")});
    item[std::string(method)] = std::move(call);
  }
  return item;
}

Json KeptCallSchema() {
  const Json text = {{"type", "string"}};
  const Json seconds = {{"type", "number"}, {"description", "Seconds since the epoch."}};
  return {
      {"type", "object"},
      {"required", {"id", "function", "state", "attempts", "accepted"}},
      {"properties",
       {{"id", text},
        {"function", text},
        {"state",
         {{"type", "string"},
          {"enum", {kCallWaiting, kCallRunning, kCallDone, kCallGivenUp, kCallCancelled}},
          {"description", fmt::format("given-up: the daemon died {} times while it ran.",
                                      CallStore::kMaxAttempts)}}},
        {"attempts",
         {{"type", "integer"}, {"description", "How often it was started."}, {"minimum", 0}}},
        {"accepted", seconds},
        {"started", seconds},
        {"ended", seconds},
        {"status",
         {{"type", "integer"},
          {"description", "Once it is done: the answer that a waiting caller would have got."}}},
        {"headers", {{"type", "object"}, {"additionalProperties", text}}},
        {"output", {{"type", "string"}, {"description", "The first 64 KiB, when they are UTF-8."}}},
        {"output_base64", {{"type", "string"}, {"format", "byte"}}},
        {"stderr", {{"type", "string"}, {"description", "The last 4 KiB."}}},
        {"output_truncated",
         {{"type", "boolean"}, {"description", "The output was longer than what is kept."}}}}}};
}

Json KeptCallPath() {
  Json item = Reading("getCall", "State and result of an asynchronous call.",
                      Answer("It is kept for as long as the configuration says (keep).", {},
                             Content("application/json", Reference("schemas", "Call"))));
  for (const char* const method : {"get", "head"}) {
    item[method]["responses"]["404"] =
        Sentence("There is no call with that id, or it is no longer kept.");
    item[method]["responses"]["501"] =
        Sentence("A transfer coding other than chunked, or no calls are kept.");
  }
  item["delete"] = Operation(
      "killCall",
      "End a call that waits or runs; its caller is answered 500 with Brood-End: killed.",
      {{"204", {{"description", "It is being ended, or, where it waited on disk, cancelled."}}},
       {"404", Sentence("No call with that id waits or runs.")},
       {"503", Sentence("It could not be cancelled: the disk takes nothing.")},
       {"405", Sentence("A call can be read, or ended.", {"Allow"})}});
  item["parameters"] = Json::array({Reference("parameters", "id")});
  return item;
}

Json FunctionSchema() {
  Json properties = {
      {"name", {{"type", "string"}}},
      {"mode", {{"type", "string"}, {"enum", {"cold", "parked", "primed", "forked", "warm"}}}},
      {"runtime", {{"type", "string"}, {"enum", {"stdin", "lambda", "http"}}}},
      {"timeout_seconds", {{"type", "number"}}},
  };
  const auto count = [&](std::string_view name, std::string_view text) {
    properties[std::string(name)] = {{"type", "integer"}, {"minimum", 0}};
    if (!text.empty()) properties[std::string(name)]["description"] = text;
  };
  for (const std::string_view name :
       {"concurrency", "queue", "max_body_bytes", "primed", "running", "queued", "calls"}) {
    count(name, "");
  }
  properties["ready"] = {
      {"type", "boolean"},
      {"description", "What its mode keeps ahead of calls is there, or some of it."}};
  properties["calls_per_second"] = {{"type", "number"}, {"description", "Over ten seconds."}};
  Json required = Json::array();
  for (const auto& [name, schema] : properties.items()) required.push_back(name);
  properties["problem"] = {{"type", "string"},
                           {"description", "Why it is not ready, where that is known."}};
  count("p50_us", "Median of the latest 1,024 calls, from the request's head to the end.");
  count("p99_us", "Likewise.");
  count("cpu_us", "Of isolates that have ended.");
  count("memory_peak_bytes", "The largest of isolates that have ended.");
  properties["last_error"] = {
      {"type", "object"},
      {"description", "The latest call, or process, that did not end well."},
      {"required", {"time", "id", "end", "message"}},
      {"properties",
       {{"time", {{"type", "number"}, {"description", "Seconds since the epoch."}}},
        {"id", {{"type", "string"}, {"description", "Of the call; empty: of none."}}},
        {"end", {{"type", "string"}}},
        {"message", {{"type", "string"}}}}}};
  properties["note"] = {{"type", "string"},
                        {"description", "Of a warm function: what its calls may share."}};
  return {{"type", "object"}, {"properties", std::move(properties)}, {"required", required}};
}

// The latest calls, of one function or of all.
Json Logs(std::string_view id, bool named) {
  Json item = Reading(
      id, "The latest calls, with what they wrote to stderr, the oldest first.",
      Answer("A JSON object a line.", {}, Content("application/x-ndjson", {{"type", "string"}})));
  item["get"]["parameters"] = Json::array({{{"name", "follow"},
                                            {"in", "query"},
                                            {"description", "1: and those to come."},
                                            {"schema", {{"type", "string"}}}}});
  if (!named) return item;
  item["parameters"] = Json::array({Reference("parameters", "name")});
  for (const char* const method : {"get", "head"}) {
    item[method]["responses"]["404"] = Sentence("There is no function of that name.");
  }
  return item;
}

// What changes what is served.
Json Changing(const char* method, std::string_view id, std::string_view summary, bool named) {
  const Json names = {
      {"type", "object"},
      {"additionalProperties", {{"type", "array"}, {"items", {{"type", "string"}}}}}};
  Json item = {
      {method,
       Operation(id, summary,
                 {{"200",
                   Answer("Names of what was added, changed and removed.", {},
                          Content("application/json",
                                  {{"type", "object"},
                                   {"properties", {{"functions", names}, {"templates", names}}}}))},
                  {"400", Sentence("It cannot be done; nothing has changed.")},
                  {"403", Sentence("It is not the caller's to do.")},
                  {"404", Sentence("There is nothing of that name.")},
                  {"405", Sentence("It is asked for otherwise.", {"Allow"})},
                  {"503", Sentence("The daemon has other orders.")}})}};
  if (named) item["parameters"] = Json::array({Reference("parameters", "name")});
  return item;
}

Json RunningCallSchema() {
  const Json text = {{"type", "string"}};
  return {{"type", "object"},
          {"required", {"id", "function", "request", "seconds"}},
          {"properties",
           {{"id", text},
            {"function", text},
            {"request", {{"type", "string"}, {"description", "Method and target."}}},
            {"seconds", {{"type", "number"}, {"description", "Since it came, or was begun."}}},
            {"user", {{"type", "string"}, {"description", "Whose token it came with."}}}}}};
}

Json Components() {
  Json headers = Json::object();
  for (const HeaderText& each : kHeaders) {
    headers[std::string(each.name)] = {{"description", each.text},
                                       {"schema", {{"type", each.type}}}};
  }
  const Json name = {
      {"name", "name"},
      {"in", "path"},
      {"required", true},
      {"description", "The function's."},
      {"schema",
       {{"type", "string"}, {"maxLength", 64}, {"pattern", "^[a-zA-Z0-9][a-zA-Z0-9_-]*$"}}}};
  const Json path = {{"name", "path"},
                     {"in", "path"},
                     {"required", true},
                     {"description", "What the function makes of it; it may have slashes."},
                     {"schema", {{"type", "string"}}}};
  const Json async = {{"name", "async"},
                      {"in", "query"},
                      {"description",
                       "1: do not wait for the answer. Not with runtime http, whose query is the "
                       "function's own: there the field Prefer: respond-async says it."},
                      {"schema", {{"type", "string"}}}};
  const Json id = {{"name", "id"},
                   {"in", "path"},
                   {"required", true},
                   {"description", "The call's."},
                   {"schema", {{"type", "string"}}}};
  return {{"parameters", {{"name", name}, {"path", path}, {"async", async}, {"id", id}}},
          {"headers", std::move(headers)},
          {"securitySchemes",
           {{"token",
             {{"type", "http"},
              {"scheme", "bearer"},
              {"description", "Where the configuration names a file of tokens."}}}}},
          {"schemas",
           {{"Function", FunctionSchema()},
            {"Call", KeptCallSchema()},
            {"RunningCall", RunningCallSchema()}}}};
}

}  // namespace

std::string DescribeOpenApi(std::string_view version) {
  const Json functions =
      Content("application/json", {{"type", "array"}, {"items", Reference("schemas", "Function")}});
  const Json paths = {
      {"/functions/{name}", CallPath(/*deeper=*/false)},
      {"/functions/{name}/{path}", CallPath(/*deeper=*/true)},
      {"/calls", Reading("listCalls", "The calls that wait or run.",
                         Answer("The oldest first.", {},
                                Content("application/json",
                                        {{"type", "array"},
                                         {"items", Reference("schemas", "RunningCall")}})))},
      {"/calls/{id}", KeptCallPath()},
      {"/logs", Logs("listLogs", /*named=*/false)},
      {"/logs/{name}", Logs("listLogsOf", /*named=*/true)},
      {"/reload", Changing("post", "reload", "Read the configuration again, as SIGHUP does.",
                           /*named=*/false)},
      {"/reload/{name}",
       Changing("post", "renewFunction",
                "Give a function new isolates, which take the old ones' place once they are ready.",
                /*named=*/true)},
      {"/deploy",
       Changing("post", "deploy",
                "Add a file of functions, whose path is the body; for the daemon's owner "
                "over its own socket.",
                /*named=*/false)},
      {"/deploy/{name}", Changing("delete", "undeploy",
                                  "Take away what was deployed under a function's name; likewise.",
                                  /*named=*/true)},
      {"/functions", Reading("listFunctions", "The functions, and how busy they are.",
                             Answer("In the order of their names.", {}, functions))},
      {"/healthz", Reading("health", "Whether calls are taken.",
                           Sentence("Yes; 503 while the daemon is draining."))},
      {"/metrics", Reading("metrics", "What the functions have done, for Prometheus.",
                           Sentence("Prometheus' text format."))},
      {"/openapi.json", Reading("describe", "This description.",
                                Answer("An OpenAPI document.", {},
                                       Content("application/json", {{"type", "object"}})))},
  };
  const Json document = {
      {"openapi", "3.0.3"},
      {"info",
       {{"title", "brood"},
        {"description",
         "Functions over HTTP, each call in an isolate of its own, unless its function is warm."},
        {"license", {{"name", "Apache-2.0"}}},
        {"version", version}}},
      {"security", Json::array({Json::object(), {{"token", Json::array()}}})},
      {"paths", paths},
      {"components", Components()},
  };
  return document.dump(2) + "\n";
}

}  // namespace brood
