// SPDX-License-Identifier: Apache-2.0

// A request to Docker's daemon without its command line program: what a caller who talks to the
// daemon himself pays.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brood::bench {

class DockerApi {
 public:
  explicit DockerApi(std::string socket) : socket_(std::move(socket)) {}

  // A container of `image` that runs `command`, isolated as the whole command's is;
  // created, started, and waited for. Its id; it is still to be removed. An error when the command
  // did not exit with 0.
  absl::StatusOr<std::string> Run(const std::string& image, const std::string& command) const;
  absl::Status Remove(const std::string& id) const;

 private:
  // One HTTP request on a connection of its own. The answer's body; an error, with the daemon's own
  // words, when its status is not 2xx.
  absl::StatusOr<std::string> Ask(const std::string& method, const std::string& path,
                                  const std::string& body) const;

  std::string socket_;
};

}  // namespace brood::bench
