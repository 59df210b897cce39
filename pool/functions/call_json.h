// SPDX-License-Identifier: Apache-2.0

// What is told of a call that was kept.
#pragma once

#include <string>
#include <vector>

#include "pool/functions/call_store.h"

namespace brood {

// A JSON object. Output that is no UTF-8 is there in base64, under another name.
std::string CallToJson(const StoredCall& call);

// A JSON array of them.
std::string CallsToJson(const std::vector<StoredCall>& calls);

}  // namespace brood
