// SPDX-License-Identifier: Apache-2.0

// The directory of what was deployed: a link for each file, named for the first of its functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/cli/serve_config.h"

namespace brood {

// The file that `path` means: itself, or function.toml in it where it is a directory; absolute,
// without links.
absl::StatusOr<std::string> DeployableFile(const std::string& path);

// What one such file has. kInvalidArgument when that is more than templates and functions, or no
// function; kPermissionDenied when others than root and this user could change it.
absl::StatusOr<ServeConfig> ReadDeployable(const std::string& file);

// Adds what the links of config.deployed lead to. What cannot be read, or has a name that is there
// already, is left out and noted in config.problems: one bad file takes no other function away.
void AddDeployed(ServeConfig& config);

// A link that has been put or taken away, and can be put back as it was.
class DeployedLink {
 public:
  // Makes the directory where it is missing.
  static absl::StatusOr<DeployedLink> Put(const std::string& directory, const std::string& function,
                                          const std::string& file);
  // kNotFound when nothing of that name is deployed.
  static absl::StatusOr<DeployedLink> Remove(const std::string& directory,
                                             const std::string& function);
  absl::Status PutBack() const;
  const std::string& path() const { return path_; }

 private:
  DeployedLink(std::string path, std::string before)
      : path_(std::move(path)), before_(std::move(before)) {}
  std::string path_;
  std::string before_;  // what it led to; empty: it was not there
};

}  // namespace brood
