// SPDX-License-Identifier: Apache-2.0

// Which request goes where: the functions by name, and what is told about them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "pool/core/timers.h"
#include "pool/functions/async_calls.h"
#include "pool/functions/call_log.h"
#include "pool/functions/call_report.h"
#include "pool/functions/function_pool.h"
#include "pool/functions/running_calls.h"
#include "pool/functions/tokens.h"
#include "pool/http/connection.h"
#include "pool/pool.h"

namespace brood {

//   /functions/NAME/PATH?QUERY   a call, with any method    GET /functions   what there is
//   POST ... ?async=1, or with Prefer: respond-async        an asynchronous one
//   GET /calls/ID                                           its result
//   GET /calls             those that wait or run           DELETE /calls/ID   ends one
//   GET /logs, /logs/NAME  the latest calls, with their stderr; ?follow=1: and those to come
//   GET /healthz           200, or 503 while the daemon drains
//   GET /metrics           Prometheus text
//   GET /openapi.json      all of this, for programs
//   POST /reload           reads the configuration again    POST /reload/NAME  new isolates
//   POST /deploy           adds a file of functions         DELETE /deploy/NAME
// A change of what is served, as it is asked for.
struct ServedChange {
  enum class Kind : std::uint8_t {
    kReload,    // the configuration is read again
    kRenew,     // a function gets new isolates, and so its program as it is now
    kDeploy,    // a file of functions is added, or replaces what it had
    kUndeploy,  // what was deployed under a function's name is taken away
  };
  Kind kind = Kind::kReload;
  std::string subject;  // the function's name, or the file's path
};
// `done` is called in the pool's thread, with what has been changed, as JSON.
using ChangeServed = std::function<void(
    ServedChange change, std::function<void(const absl::StatusOr<std::string>& changed)> done)>;

// Only in the pool's thread. Must live until the pool has been shut down.
class Router {
 public:
  struct Options {
    std::function<bool()> memory_is_short;  // new calls are refused; may be null
    CallSink log;
    std::string version;            // of the program, for /openapi.json
    AsyncCalls* calls = nullptr;    // null: none are kept
    RunningCalls* running;          // where calls are noted
    CallLog* calls_log;             // what has become of them
    ChangeServed change;            // null: what is served does not change
    std::uint32_t max_running = 0;  // isolates at once, of all functions (PoolOptions)
  };
  Router(Pool& pool, Timers& timers, Options options)
      : pool_(pool), timers_(timers), options_(std::move(options)) {}

  // Adds a function, or replaces the one of that name, whose calls go on as they were; `gone` is
  // called once the last of them has ended. Starts priming.
  void Put(FunctionOptions function, std::function<void()> gone = nullptr) {
    Put(Prepare(std::move(function)), std::move(gone));
  }
  // The same in two steps. One that is prepared primes already, but is called by nobody; it may be
  // dropped, once it has been closed.
  std::shared_ptr<FunctionPool> Prepare(FunctionOptions function);
  void Put(const std::shared_ptr<FunctionPool>& function, std::function<void()> gone);
  // Takes a function away in the same manner.
  void Remove(const std::string& name, std::function<void()> gone);
  std::size_t running() const;  // calls, of all functions
  // Null when there is none of that name.
  std::shared_ptr<FunctionPool> Find(std::string_view name) const;
  // Who may call from now on; null: everyone.
  void SetTokens(std::shared_ptr<const Tokens> tokens) { tokens_ = std::move(tokens); }
  // What a load balancer is told of a function, or with "" of all together (agent_check.h).
  std::string TellBalancer(const std::string& function) const;
  // Ends what is primed. Who has come in time is still served; no asynchronous call is accepted.
  void Drain();
  void Close();  // ends what is primed

  std::shared_ptr<Exchange> Handle(HttpConnection& connection, const RequestHead& head);

 private:
  std::shared_ptr<Exchange> HandleCall(HttpConnection& connection, const RequestHead& head,
                                       std::string_view path,
                                       const std::shared_ptr<FunctionPool>& function);
  std::shared_ptr<Exchange> HandleKept(HttpConnection& connection, const RequestHead& head,
                                       const Token* token);
  std::shared_ptr<Exchange> HandleKnown(HttpConnection& connection, const RequestHead& head,
                                        const Token* token);
  std::shared_ptr<Exchange> HandleLogs(HttpConnection& connection, const RequestHead& head);
  std::shared_ptr<Exchange> HandleChange(HttpConnection& connection, const RequestHead& head);
  std::string Describe() const;
  std::string Metrics();

  Pool& pool_;
  Timers& timers_;
  Options options_;
  std::map<std::string, std::shared_ptr<FunctionPool>, std::less<>> functions_;
  std::shared_ptr<const Tokens> tokens_;
  bool draining_ = false;
};

}  // namespace brood
