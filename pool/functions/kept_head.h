// SPDX-License-Identifier: Apache-2.0

// What a request says before its body, as it is kept on disk with an asynchronous call.
#pragma once

#include <string>
#include <string_view>

#include "pool/http/request_parser.h"

namespace brood {

struct KeptHead {
  RequestHead head;
  std::string path;  // of its target, behind the function's name
  std::string peer;  // the caller's address
};

// Pure.
std::string KeptHeadToJson(const KeptHead& kept);
// A plain POST where the text is none of ours, as in a file of an older brood.
KeptHead KeptHeadFromJson(std::string_view text);

}  // namespace brood
