// SPDX-License-Identifier: Apache-2.0

// A request as functions are given it: as CGI variables, or as HTTP.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pool/functions/function.h"
#include "pool/http/request_parser.h"

namespace brood {

// All of these are pure. `path`: of the request's target, behind the function's name; empty or
// beginning with a slash. `peer`: the caller's address; empty: it has none.

// The variables of RFC 3875, 4.1, as "NAME=value": what the function's own environment has is left
// out, and so is what a function is not to know (credentials) or could be misled by (the field
// Proxy, as HTTP_PROXY; names with other characters than letters, digits and hyphens).
std::vector<std::string> CgiEnvironment(const RequestHead& head, std::string_view path,
                                        const FunctionOptions& function, std::string_view peer);

// The fields that a caller sent in our name, X-Forwarded-User.
bool IsUserField(std::string_view name);

// The request line, the fields but those of its connection, and an empty line. The body behind it
// has no coding; without a Content-Length it goes to the end.
std::string RequestText(const RequestHead& head, std::string_view path);

// The same for a server that the request is passed on to: with X-Forwarded-For, -Proto, -Prefix and
// -User, with how the body is parted, and with Upgrade where the request has one.
std::string ForwardedText(const RequestHead& head, std::string_view path,
                          const FunctionOptions& function, std::string_view peer);

// "%41" is "A". What is no such triple stays as it is, and so does a NUL, which no variable holds.
std::string PercentDecoded(std::string_view text);

// Whether it asks for another protocol over its connection, as WebSocket does (RFC 9110, 7.8).
bool AsksForUpgrade(const RequestHead& head);
// Its body has no length told ahead, so it is passed on in chunks.
bool IsChunked(const RequestHead& head);

}  // namespace brood
