// SPDX-License-Identifier: Apache-2.0

// What brood serve is asked for on its command line, and what that and its configuration come to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/cli/serve_config.h"

namespace brood {

struct ServeWords {
  std::string config_file;
  std::string socket;
  std::string group;
  std::string http;
  std::string drain;
  std::vector<std::string> templates;
  std::optional<std::uint32_t> pool;
  std::uint32_t max_running = 0;
  std::uint32_t max_unclaimed = 0;
  bool verbose = false;
};

// Reads the file, if one is named, lets the command line override it, and looks at what its
// templates and functions lead to (SourceState). A sentence for what cannot be read or does not fit
// together.
absl::StatusOr<ServeConfig> ReadServeConfig(const ServeWords& words);

}  // namespace brood
