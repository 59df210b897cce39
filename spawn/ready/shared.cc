// SPDX-License-Identifier: Apache-2.0

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "spawn/ready/ready.h"

namespace brood::ready {
namespace {

// Calls `each` with the number that every entry's name is, and the directory's own descriptor.
template <typename Each>
void ForEachNumber(const char* path, Each each) {
  DIR* directory = opendir(path);
  if (directory == nullptr) Refuse("reading %s: %s", path, strerror(errno));
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') each(atoi(entry->d_name), dirfd(directory));
  }
  closedir(directory);
}

void RefuseThreads() {
  int threads = 0;
  ForEachNumber("/proc/self/task", [&](int, int) { ++threads; });
  if (threads > 1) {
    Refuse("it has %d threads, and only one of them would be in a call: start threads in the call",
           threads);
  }
}

void FindFiles(ReopenedFiles& files) {
  ForEachNumber("/proc/self/fd", [&](int fd, int own) {
    if (fd <= 2 || fd == own || fd == control) return;
    struct stat status = {};
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &status) != 0) return;
    if ((flags & O_PATH) != 0) return;
    const bool reads = (flags & O_ACCMODE) == O_RDONLY;
    // null, zero, full, random and urandom have no state.
    if (S_ISCHR(status.st_mode) && major(status.st_rdev) == 1) return;
    if (!reads || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
      char path[32];
      char target[128];
      snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
      const ssize_t length = readlink(path, target, sizeof(target) - 1);
      target[length < 0 ? 0 : length] = '\0';
      Refuse("descriptor %d (%s) is open%s, and its calls would share it: close it first", fd,
             target, reads ? "" : " for writing");
    }
    if (files.count == ReopenedFiles::kMost) {
      Refuse("it has more than %zu files open", ReopenedFiles::kMost);
    }
    const bool close_on_exec = (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
    files.files[files.count++] = {fd, flags & ~(O_CREAT | O_EXCL | O_TRUNC), close_on_exec};
  });
}

// Lines as "7f00-7f10 rw-s 00000000 00:01 3  /dev/zero (deleted)".
void RefuseSharedMemory() {
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) Refuse("reading /proc/self/maps: %s", strerror(errno));
  char line[512];
  bool begins = true;
  while (fgets(line, sizeof(line), maps) != nullptr) {
    const bool ends = strchr(line, '\n') != nullptr;
    const char* permissions = begins ? strchr(line, ' ') : nullptr;
    begins = ends;
    if (permissions == nullptr || permissions[2] != 'w' || permissions[4] != 's') continue;
    const char* name = strchr(line, '/');
    line[strcspn(line, "\n")] = '\0';
    Refuse(
        "%.100s is mapped to be written and shared, and its calls would share it: unmap it first",
        name == nullptr ? "memory" : name);
  }
  fclose(maps);
}

}  // namespace

void FindShared(ReopenedFiles& files) {
  RefuseThreads();
  RefuseSharedMemory();
  FindFiles(files);
}

}  // namespace brood::ready
