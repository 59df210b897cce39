// SPDX-License-Identifier: Apache-2.0

// What is told of a call that was kept.
#pragma once

#include <string>

#include "pool/functions/call_store.h"

namespace brood {

// A JSON object. Output that is no UTF-8 is there in base64, under another name.
std::string CallToJson(const StoredCall& call);

}  // namespace brood
