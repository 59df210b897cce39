// SPDX-License-Identifier: Apache-2.0

// Header fields of HTTP messages: finding them, and whose they are.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace brood {

// Fields as they were sent, in their order.
using Fields = std::vector<std::pair<std::string, std::string>>;

// All of these are pure, and take names in any case.
std::string LowerCase(std::string_view text);
bool EqualsIgnoringCase(std::string_view a, std::string_view b);
// The value of the first of that name; empty: there is none.
std::string_view FindField(const Fields& fields, std::string_view name);
// Whether any field of that name, a list parted by commas, has `token`.
bool ListsToken(const Fields& fields, std::string_view name, std::string_view token);

// Those that are passed on: not about the connection that they came over, nor named by their
// Connection (RFC 9110, 7.6.1). In time that grows with them, and not with their square.
Fields EndToEnd(const Fields& fields);
// A function may set it in its answer: it is neither about the connection nor about the length of
// the body, nor one of those by which brood itself speaks.
bool MaySetField(std::string_view name);

// Any character but controls; so nothing that could end the field.
bool IsFieldValue(std::string_view value);
bool IsToken(std::string_view text);
// A path, and perhaps a query, as a request line has it: nothing that could end the line.
bool IsRequestTarget(std::string_view text);

}  // namespace brood
