// SPDX-License-Identifier: Apache-2.0

// A function as its configuration describes it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/failure.h"
#include "spawn/spec.h"

namespace brood {

// How far ahead of a call its isolate is prepared. But for kWarm, a worker serves one call.
enum class FunctionMode : std::uint8_t {
  kCold,    // nothing: everything is made for the call
  kParked,  // isolated already; the call is an exec
  kPrimed,  // has exec'd the function, which waits on stdin; the call is its bytes
  kForked,  // is a clone of a process that has loaded the function
  kWarm,    // has served calls before, and finds again what it kept; not with kStdin
};
std::string_view FunctionModeName(FunctionMode mode);

// How a function is given its call, and how it answers.
enum class FunctionRuntime : std::uint8_t {
  kStdin,   // the body on stdin, the answer on stdout
  kLambda,  // over AWS Lambda's runtime interface (lambda_runtime.h)
  kHttp,    // as a server on $PORT that each call is passed on to (http_runtime.h)
};
std::string_view FunctionRuntimeName(FunctionRuntime runtime);

// What a function finds on its stdin, with kStdin.
enum class FunctionInput : std::uint8_t {
  kBody,     // the request's body
  kRequest,  // all of it, as HTTP has it: the request line, its fields, an empty line, the body
};

// What an event of kLambda is made of.
enum class LambdaEvent : std::uint8_t {
  kBody,         // the request's body is the event, and the response the answer's body
  kApiGateway1,  // both are as API Gateway has them (lambda_event.h); its payload version 1.0
  kApiGateway2,  // version 2.0
};

// Plain values; see brood.toml(5) for the words they are made of.
struct FunctionOptions {
  std::string name;           // [a-zA-Z0-9][a-zA-Z0-9_-]*, at most 64
  std::string template_name;  // of the pool; its own, unless the configuration names one
  Command command;            // its stdio and timeout are the call's to set
  FunctionMode mode = FunctionMode::kParked;
  FunctionRuntime runtime = FunctionRuntime::kStdin;
  FunctionInput input = FunctionInput::kBody;
  LambdaEvent event = LambdaEvent::kBody;
  std::optional<Spec> spec;  // kForked: what a call stands behind; of no template
  FaultInjection fault;      // kForked: test switch, in what a call does
  std::uint32_t min = 4;     // kPrimed, kForked, kWarm: workers kept ahead of their calls
  // kWarm: when an isolate ends. Beyond `min`, those that no call has come to for `idle` end, too.
  std::uint64_t max_calls = 0;          // that it serves; 0: any number
  std::chrono::nanoseconds max_age{0};  // 0: any
  std::chrono::nanoseconds idle = std::chrono::minutes(5);
  // kHttp:
  std::uint16_t port = 8080;        // that the command listens on
  std::uint16_t max_inflight = 16;  // calls at once in one isolate
  bool reads_bodies = false;        // all of each, whatever it answers
  std::string ready_path;           // is ready once this is answered 2xx or 3xx; empty: connecting
  std::uint32_t concurrency = 64;   // calls that may run at once
  std::uint32_t queue = 128;        // calls that may wait; beyond, 429
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);        // of a call that runs
  std::chrono::nanoseconds queue_timeout = std::chrono::seconds(10);  // of one that waits: 503
  std::uint64_t max_body = 64ULL << 20;                               // bytes; beyond, 413
  bool cgi = false;  // its output begins with header lines and an empty line (RFC 3875, 6.2)
};

}  // namespace brood
