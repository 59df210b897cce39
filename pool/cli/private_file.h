// SPDX-License-Identifier: Apache-2.0

// A file whose content is a secret.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace brood {

// All of it. kInvalidArgument when it is no regular file, is longer than `most` bytes, or others
// than its owner may read or write it. `what` it is, for sentences.
absl::StatusOr<std::string> ReadPrivateFile(std::string_view what, const std::string& path,
                                            std::size_t most);

}  // namespace brood
