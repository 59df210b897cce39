// The descriptors that become a worker's stdin, stdout and stderr.
#pragma once

#include <array>

#include "absl/status/statusor.h"
#include "spawn/spec.h"
#include "spawn/unique_fd.h"

namespace brood {

struct PreparedStdio {
  std::array<int, 3> fds{-1, -1, -1};  // to be handed to the worker; valid while this lives
  std::array<UniqueFd, 2> outputs;     // kCapture: our non-blocking ends of stdout and stderr
  std::array<UniqueFd, 2> writers;     // kCapture: the worker's ends, to be closed once handed over
};

// `null_fd` is an open /dev/null, borrowed; it stands in for what the launcher itself does not
// have.
absl::StatusOr<PreparedStdio> PrepareStdio(const Stdio& stdio, int null_fd);

}  // namespace brood
