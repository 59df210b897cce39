#include "spawn/stdio.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "spawn/status.h"

namespace brood {
namespace {

// Standard input, output or error that can be handed on. A program started without one has some
// other file there, which is close-on-exec when it is ours.
bool IsInheritable(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

}  // namespace

absl::StatusOr<PreparedStdio> PrepareStdio(const Stdio& stdio, int null_fd) {
  PreparedStdio out;
  out.fds.fill(null_fd);
  switch (stdio.mode) {
    case StdioMode::kNull:
      break;
    case StdioMode::kFds:
    case StdioMode::kEndpoint:
      out.fds = stdio.fds;
      break;
    case StdioMode::kTerminal:
      out.fds[0] = stdio.fds[0];
      break;
    case StdioMode::kInherit:
      for (int fd = 0; fd < 3; ++fd) {
        if (IsInheritable(fd)) out.fds[static_cast<std::size_t>(fd)] = fd;
      }
      break;
    case StdioMode::kCapture:
      for (std::size_t i = 0; i < 2; ++i) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe for output");
        out.outputs[i].reset(ends[0]);
        out.writers[i].reset(ends[1]);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        out.fds[i + 1] = ends[1];
      }
      break;
  }
  return out;
}

}  // namespace brood
