// SPDX-License-Identifier: Apache-2.0

// Goes along when the process becomes another program before it is ready, as a script does that
// ends with "exec program". What it starts beside itself does not get the library.
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "spawn/ready/ready.h"

namespace brood::ready {
namespace {

// Environments with more names than this go as they are.
constexpr std::size_t kMostNames = 4000;

bool Names(const char* entry, const char* name) {
  const std::size_t length = strlen(name);
  return strncmp(entry, name, length) == 0 && entry[length] == '=';
}

// 0, 1 and 2 as a process gets them at first; `saved` are what they were.
bool PlaceForLibrary(int saved[3]) {
  for (int i = 0; i < 3; ++i) {
    saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
    if (saved[i] < 0) return false;
  }
  return dup2(saved[2], kOutputFd) >= 0 && dup2(library, kLibraryFd) >= 0 &&
         dup2(control, kSocketFd) >= 0;
}

void PutBack(const int saved[3]) {
  for (int i = 0; i < 3; ++i) {
    if (saved[i] < 0) continue;
    dup2(saved[i], i);
    close(saved[i]);
  }
}

}  // namespace
}  // namespace brood::ready

extern "C" int execve(const char* path, char* const argv[], char* const envp[]) {
  using namespace brood::ready;
  static decltype(&execve) next = nullptr;
  if (next == nullptr) next = reinterpret_cast<decltype(&execve)>(dlsym(RTLD_NEXT, "execve"));
  if (control < 0 || getpid() != kProcessPid || envp == nullptr) return next(path, argv, envp);

  // On the stack: this may run in the child of a vfork, or where malloc's lock is held.
  const char* environment[kMostNames + 3];
  char preload[4096];
  std::size_t count = 0;
  int length = snprintf(preload, sizeof(preload), "LD_PRELOAD=/proc/self/fd/%d", kLibraryFd);
  for (char* const* each = envp; *each != nullptr; ++each) {
    if (count == kMostNames) return next(path, argv, envp);
    if (Names(*each, "LD_PRELOAD")) {
      length += snprintf(preload + length, sizeof(preload) - static_cast<std::size_t>(length),
                         ":%s", *each + strlen("LD_PRELOAD="));
      if (static_cast<std::size_t>(length) >= sizeof(preload)) return next(path, argv, envp);
    } else if (!Names(*each, kMark)) {
      environment[count++] = *each;
    }
  }
  char mark[32];
  snprintf(mark, sizeof(mark), "%s=1", kMark);
  environment[count++] = preload;
  environment[count++] = mark;
  environment[count] = nullptr;
  int saved[3] = {-1, -1, -1};
  if (PlaceForLibrary(saved)) next(path, argv, const_cast<char* const*>(environment));
  const int error = errno;
  PutBack(saved);
  errno = error;
  return -1;
}
