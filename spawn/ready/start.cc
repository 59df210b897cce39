// SPDX-License-Identifier: Apache-2.0

// Puts the descriptors in their places, and leaves a process behind as init.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "spawn/child/syscalls.h"
#include "spawn/ready/ready.h"

namespace brood::ready {

int control = -1;
int library = -1;

namespace {

// Out of the way of numbers that a program expects its own files to get.
constexpr int kControlFrom = 500;

std::int64_t Microseconds(const timeval& time) {
  return std::int64_t{time.tv_sec} * 1'000'000 + time.tv_usec;
}

// The process is not the first of its namespace, since that one may not clone with CLONE_PARENT,
// and since programs tell by a changed number that they have been forked: a call's process is
// number one again. Clones have this process for a parent, so this one hears of their ends.
[[noreturn]] void BeInit(pid_t process) {
  prctl(PR_SET_NAME, "brood-init");
  sys::CloseRange(0, static_cast<unsigned>(control) - 1, 0);
  sys::CloseRange(static_cast<unsigned>(control) + 1, ~0U, 0);
  for (;;) {
    siginfo_t info;
    rusage usage;
    info.si_pid = 0;
    const long waited = syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL, &usage);
    if (waited < 0 && errno == EINTR) continue;
    if (waited < 0) _exit(kRefusedStatus);
    if (info.si_pid == process) {
      _exit(info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status);
    }
    Message message;
    message.kind = Kind::kEnded;
    message.pid = info.si_pid;
    message.code = info.si_code;
    message.status = info.si_status;
    message.at_ns = sys::MonotonicNs();
    message.cpu_us = Microseconds(usage.ru_utime) + Microseconds(usage.ru_stime);
    message.max_rss_kib = usage.ru_maxrss;
    Send(message);
    // Only now can its number be another's.
    syscall(SYS_waitid, P_PID, info.si_pid, &info, WEXITED | __WALL, nullptr);
  }
}

void LeaveInitBehind() {
  if (getpid() != 1) Refuse("it is not the first process of a pid namespace");
  const pid_t process = fork();
  if (process < 0) Refuse("starting its process: %s", strerror(errno));
  if (process > 0) BeInit(process);
}

// What the program starts shall not have it. Ours is the first of the list.
void TakeOutOfPreload() {
  const char* list = getenv("LD_PRELOAD");
  if (list == nullptr) return;
  const char* rest = strchr(list, ':');
  if (rest == nullptr) {
    unsetenv("LD_PRELOAD");
  } else {
    setenv("LD_PRELOAD", rest + 1, 1);
  }
}

__attribute__((constructor)) void Start() {
  if (getenv(kMark) == nullptr) return;
  unsetenv(kMark);
  TakeOutOfPreload();
  int type = 0;
  socklen_t length = sizeof(type);
  if (getsockopt(kSocketFd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_SEQPACKET) {
    return;
  }
  control = fcntl(kSocketFd, F_DUPFD_CLOEXEC, kControlFrom);
  if (control < 0) control = fcntl(kSocketFd, F_DUPFD_CLOEXEC, 3);
  if (control < 0) _exit(kRefusedStatus);
  library = fcntl(kLibraryFd, F_DUPFD_CLOEXEC, control);
  // Until a call has its own there is nothing to be read from stdin: neither by what the program
  // starts, nor by one that reads past this library.
  int ends[2];
  if (dup2(kOutputFd, 1) < 0 || dup2(kOutputFd, 2) < 0 || pipe2(ends, O_CLOEXEC) != 0 ||
      dup2(ends[0], 0) < 0 || library < 0) {
    Refuse("placing its descriptors: %s", strerror(errno));
  }
  close(ends[0]);
  close(ends[1]);
  if (getpid() != kProcessPid) LeaveInitBehind();
  WatchStdin();
}

}  // namespace
}  // namespace brood::ready
