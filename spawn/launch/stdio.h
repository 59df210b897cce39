// SPDX-License-Identifier: Apache-2.0

// The descriptors that become a worker's stdin, stdout and stderr.
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood {

// Who a worker is outside its user namespace.
struct HostIds {
  uid_t uid = 0;
  gid_t gid = 0;
};

// Terminals whose owner is a worker for as long as this lives, as a login makes them its user's: it
// can open /dev/stdin, /dev/stdout and /dev/stderr then. Move-only; gives them back when destroyed,
// unless their owner has changed meanwhile.
class LentTerminals {
 public:
  LentTerminals() = default;
  LentTerminals(LentTerminals&& other) noexcept { *this = std::move(other); }
  LentTerminals& operator=(LentTerminals&& other) noexcept;
  ~LentTerminals() { GiveBack(); }

  // Lends the terminal `fd`, unless one of these is the same. A terminal that may not be lent stays
  // as it is.
  void Lend(int fd, const HostIds& owner, const HostIds& to);
  void GiveBack();

 private:
  struct Loan {
    UniqueFd terminal;
    HostIds owner;
    HostIds borrower;
  };
  std::array<std::optional<Loan>, 3> loans_;
};

struct PreparedStdio {
  std::array<int, 3> fds{-1, -1, -1};  // to be handed to the worker; valid while this lives
  std::array<UniqueFd, 2> outputs;     // kCapture: our non-blocking ends of stdout and stderr
  std::array<UniqueFd, 2> writers;     // kCapture: the worker's ends, to be closed once handed over
  LentTerminals terminals;             // to be kept until the worker has ended
};

// `null_fd` is an open /dev/null, borrowed; it replaces descriptors that the launcher itself lacks.
// `worker`: absent where the launcher may not change the owner of files, or does not know the
// worker's ids. kInvalidArgument for a descriptor that would lead the command out of its isolate: a
// directory, a path (O_PATH), a namespace, a process or anything else that is not there to be read
// or written; kPermissionDenied for one of another user (Stdio::foreign) that a worker with the
// host's ids could reopen with more rights than that user has.
absl::StatusOr<PreparedStdio> PrepareStdio(const Stdio& stdio, int null_fd,
                                           const std::optional<HostIds>& worker,
                                           bool has_host_ids = false);

}  // namespace brood
