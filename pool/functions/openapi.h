// SPDX-License-Identifier: Apache-2.0

// What the server's paths take and answer, for programs: OpenAPI 3.0.
#pragma once

#include <string>
#include <string_view>

namespace brood {

// A JSON document. Every answer of the server's is in it; what a function of mode cgi answers by
// itself is there as 2XX to 5XX. Trailers, which OpenAPI has no word for, are told in text.
std::string DescribeOpenApi(std::string_view version);

}  // namespace brood
