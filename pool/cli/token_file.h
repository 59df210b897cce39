// SPDX-License-Identifier: Apache-2.0

// The file of tokens that [http] tokens names.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "pool/functions/tokens.h"

namespace brood {

// TOML: a table [token.NAME] for each, with secret, functions, admin and expires. kInvalidArgument
// with a sentence that names the file and the line.
absl::StatusOr<std::shared_ptr<const Tokens>> ParseTokens(std::string_view text,
                                                          const std::string& file);
// The same, of a file that nobody else may read.
absl::StatusOr<std::shared_ptr<const Tokens>> ReadTokens(const std::string& file);

}  // namespace brood
