// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "pool/cli/commands.h"
#include "spawn/base/status.h"

namespace brood {

namespace {

int first_errno = 0;

// stdio forgets the errno of a write that failed before the last one, and fmt::print throws it.
ssize_t Write(void* /*cookie*/, const char* bytes, std::size_t count) {
  for (std::size_t done = 0; first_errno == 0 && done < count;) {
    const ssize_t written = write(STDOUT_FILENO, bytes + done, count - done);
    if (written >= 0) {
      done += static_cast<std::size_t>(written);
    } else if (errno != EINTR) {
      first_errno = errno;
    }
  }
  return static_cast<ssize_t>(count);
}

}  // namespace

absl::Status WatchOutput() {
  std::FILE* const watched = fopencookie(nullptr, "w", {nullptr, Write, nullptr, nullptr});
  if (watched == nullptr) return ErrnoError(errno, "preparing to watch what is written to stdout");
  (void)std::setvbuf(watched, nullptr, isatty(STDOUT_FILENO) == 1 ? _IOLBF : _IOFBF, BUFSIZ);
  stdout = watched;
  return absl::OkStatus();
}

absl::Status OutputStatus() {
  if (first_errno == 0) return absl::OkStatus();
  return ErrnoError(first_errno, "writing to stdout");
}

int FinishOutput(int status) {
  (void)std::fflush(stdout);
  if (first_errno == 0) return status;
  return first_errno == EPIPE ? 128 + SIGPIPE : Complain(OutputStatus());
}

}  // namespace brood
