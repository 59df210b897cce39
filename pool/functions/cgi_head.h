// SPDX-License-Identifier: Apache-2.0

// The head of a function's output that is a CGI answer (RFC 3875, section 6).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "pool/http/caller.h"

namespace brood {

struct CgiHead {
  HttpStatus status = 200;
  Fields fields;          // those that are a function's to set
  std::string error;      // why it is none; empty: it is one
  std::size_t bytes = 0;  // of the output, its empty line included
};

// What the output begins with. None: it is not whole yet; that it is no head, or longer than 16
// KiB, is told as soon as it is seen. Pure.
std::optional<CgiHead> ParseCgiHead(std::string_view output);

}  // namespace brood
