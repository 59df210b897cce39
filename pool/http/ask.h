// SPDX-License-Identifier: Apache-2.0

// One request as a client makes it, whose answer is waited for.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "pool/http/fields.h"
#include "pool/http/response_parser.h"
#include "spawn/base/unique_fd.h"

namespace brood {

struct HttpAsked {
  std::string method = "GET";
  std::string target = "/";  // path and query
  Fields fields;             // beside Host, Connection and Content-Length
  std::string body;
};

// Sends it over a connected socket, which has to block, and returns the answer's head once all of
// the answer has been read. Pieces of its body go to `take` as they come, with the head; what that
// returns ends the exchange where it is not OK. kUnavailable when the server ends it early;
// kInvalidArgument for a method, target or field that would not be read as it is meant.
absl::StatusOr<ResponseHead> AskHttp(
    UniqueFd socket, const HttpAsked& asked,
    const std::function<absl::Status(const ResponseHead& head, std::string_view body)>& take);

}  // namespace brood
