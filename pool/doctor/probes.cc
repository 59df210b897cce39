// SPDX-License-Identifier: Apache-2.0

#include "pool/doctor/probes.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "spawn/base/unique_fd.h"

namespace brood {
namespace {

constexpr unsigned kPatienceSeconds = 5;

int ErrnoOf(long result) { return result < 0 ? errno : 0; }

// The wait status of a child, as TryInChild's callers read it.
int AwaitTrial(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return errno;
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return WTERMSIG(status) == SIGALRM ? ETIMEDOUT : ENOSYS;
}

std::string ReadAll(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  off_t at = 0;
  for (ssize_t count = 0; (count = pread(fd, buffer.data(), buffer.size(), at)) > 0; at += count) {
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return text;
}

}  // namespace

int TryInChild(const std::function<int()>& trial) {
  const pid_t pid = fork();
  if (pid < 0) return errno;
  if (pid == 0) {
    alarm(kPatienceSeconds);
    _exit(trial());
  }
  return AwaitTrial(pid);
}

int MakeUserNamespace() { return ErrnoOf(unshare(CLONE_NEWUSER)); }

int UseUserNamespace() {
  if (const int error = MakeUserNamespace(); error != 0) return error;
  if (unshare(CLONE_NEWUTS) != 0) return errno;
  return ErrnoOf(sethostname("doctor", 6));
}

int MakeNamespace(NamespaceKind kind, bool own_rights) {
  if (!own_rights && kind != NamespaceKind::kUser) {
    if (const int error = MakeUserNamespace(); error != 0) return error;
  }
  return ErrnoOf(unshare(static_cast<int>(NamespaceFlag(kind))));
}

int MountProc(bool own_rights) {
  if (!own_rights) {
    if (const int error = MakeUserNamespace(); error != 0) return error;
  }
  if (unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) return errno;
  // Only a child is in the new pid namespace, and /proc is of the namespace of who mounts it.
  return TryInChild([] {
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno;
    return ErrnoOf(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr));
  });
}

int SetUpRing() {
  io_uring_params params{};
  const long ring = syscall(SYS_io_uring_setup, 1, &params);
  if (ring < 0) return errno;
  close(static_cast<int>(ring));
  return 0;
}

int InstallFilter() {
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_fprog program{1, &allow};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  return ErrnoOf(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

TrialRun RunTrial(const std::string& brood) {
  TrialRun trial;
  const UniqueFd out(memfd_create("outcome", MFD_CLOEXEC));
  const UniqueFd err(memfd_create("error", MFD_CLOEXEC));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, err.get(), 2);
  const std::array<const char*, 8> argv = {
      "brood", "run", "--json=/proc/self/fd/1", "--timeout", "10s", "--", "/bin/true", nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, brood.c_str(), &actions, nullptr,
                                const_cast<char* const*>(argv.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    trial.exit_status = 125;
    trial.error = "it could not be started";
    return trial;
  }
  trial.exit_status = AwaitTrial(pid);
  trial.outcome = ReadAll(out.get());
  trial.error = ReadAll(err.get());
  return trial;
}

}  // namespace brood
