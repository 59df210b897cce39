// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/private_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood {

absl::StatusOr<std::string> ReadPrivateFile(std::string_view what, const std::string& path,
                                            std::size_t most) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat status = {};
  if (!fd.valid() || fstat(fd.get(), &status) != 0) {
    return ErrnoError(errno, "reading {} {}", what, path);
  }
  if (!S_ISREG(status.st_mode)) return InvalidError("{} {} is no regular file", what, path);
  if ((status.st_mode & 077) != 0) {
    return InvalidError("others than its owner may use {} {}: chmod 600 it", what, path);
  }
  std::string text;
  std::array<char, 16384> piece;
  for (;;) {
    const ssize_t got = read(fd.get(), piece.data(), piece.size());
    if (got < 0) return ErrnoError(errno, "reading {} {}", what, path);
    if (got == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
    if (text.size() > most) {
      return InvalidError("{} {} is longer than {} bytes", what, path, most);
    }
  }
}

}  // namespace brood
