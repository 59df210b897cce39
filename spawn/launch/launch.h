// SPDX-License-Identifier: Apache-2.0

// A Command laid out for the child: strings and pointer arrays at addresses it can use as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "spawn/child/mailbox.h"
#include "spawn/spec.h"

namespace brood {

// The paths to try for argv[0], as execvp(3) would: itself when it has a slash, else each directory
// of the command's own PATH (not the launcher's).
std::vector<std::string> ExecCandidates(const Command& command);

// A command's layout: its size, then its bytes.
class LaunchLayout {
 public:
  // `command` must outlive the layout and have passed Validate.
  explicit LaunchLayout(const Command& command);

  std::size_t bytes() const { return bytes_; }
  // Writes bytes() bytes at `to` (8-byte aligned) as they will be seen at address `base`, and
  // points `record` to them.
  void Write(char* to, std::uint64_t base, LaunchRecord& record) const;

 private:
  const Command& command_;
  std::vector<std::string> candidates_;
  std::size_t bytes_ = 0;
};

}  // namespace brood
