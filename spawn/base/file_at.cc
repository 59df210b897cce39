// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/file_at.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "spawn/base/unique_fd.h"

namespace brood {
namespace {

// From the current offset to the end. 0 or an errno.
int ReadAll(int fd, std::string& text) {
  text.clear();
  char buffer[4096];
  while (true) {
    const ssize_t count = TEMP_FAILURE_RETRY(read(fd, buffer, sizeof(buffer)));
    if (count < 0) return errno;
    if (count == 0) return 0;
    text.append(buffer, static_cast<std::size_t>(count));
  }
}

}  // namespace

int ReadFileAt(int directory, const char* path, std::string& text) {
  const UniqueFd file(openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return file.valid() ? ReadAll(file.get(), text) : errno;
}

int WriteFileAt(int directory, const char* path, std::string_view value) {
  const UniqueFd file(openat(directory, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return errno;
  // A cgroup file takes a value whole or not at all: there is no short write to continue.
  const ssize_t count = TEMP_FAILURE_RETRY(write(file.get(), value.data(), value.size()));
  return count < 0 ? errno : 0;
}

}  // namespace brood
