// SPDX-License-Identifier: Apache-2.0

// HTTP as Lambda's functions know it: the event that stands for a request, and the answer that a
// response stands for, as API Gateway makes them ("Working with AWS Lambda proxy integrations").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "pool/functions/function.h"
#include "pool/http/caller.h"
#include "pool/http/request_parser.h"

namespace brood {

// A request, while its body is still to come.
struct EventRequest {
  RequestHead head;
  std::string path;         // of its target, behind the function's name
  std::string peer;         // the caller's address; empty: it has none
  std::string id;           // of the call
  std::int64_t now_ms = 0;  // since the epoch
};

// All of these are pure.

// A body that is text by its Content-Type, and UTF-8, is put in as it is, any other as base64.
std::string EventJson(const FunctionOptions& function, const EventRequest& request,
                      std::string_view body);

struct EventAnswer {
  HttpStatus status = 200;
  Fields fields;  // those that are a function's to set
  std::string body;
  std::string error;  // why it is none; empty: it is one
};
// Of a whole response, after `event`.
EventAnswer AnswerOfResponse(LambdaEvent event, std::string_view response);

// A streamed response may begin with JSON of its status and fields, and eight NUL bytes.
inline constexpr std::string_view kPreludeType =
    "application/vnd.awslambda.http-integration-response";
struct Prelude {
  EventAnswer answer;     // without a body
  std::size_t bytes = 0;  // of the response, its NUL bytes included
};
// None: it is not whole yet. One of more than 64 KiB is none.
std::optional<Prelude> ParsePrelude(std::string_view response);

}  // namespace brood
