// SPDX-License-Identifier: Apache-2.0

// Places in which a limit can be pushed without anybody else noticing.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "pool/stress/unit.h"
#include "spawn/base/id_maps.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup_tree.h"

namespace brood::limits {

std::optional<std::uint64_t> CountCgroupsBelow(const std::string& directory) {
  std::string text;
  if (ReadFileAt(AT_FDCWD, (directory + "/cgroup.stat").c_str(), text) != 0) return std::nullopt;
  const auto living = NumberBehind(text, "nr_descendants");
  const auto dying = NumberBehind(text, "nr_dying_descendants");
  if (!living || !dying) return std::nullopt;
  return *living + *dying;
}

int WriteFile(const std::string& path, std::string_view text) {
  return WriteFileAt(AT_FDCWD, path.c_str(), text);
}

int MapOwnIds(uid_t inside_uid, uid_t uid, gid_t inside_gid, gid_t gid) {
  for (const IdMapFile& file : MapOneId(inside_uid, uid, inside_gid, gid)) {
    const int error = WriteFile(fmt::format("/proc/self/{}", file.name), file.text);
    if (error != 0) return error;
  }
  return 0;
}

absl::Status EnterUserNamespace() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWUSER) != 0) {
    return Error(absl::StatusCode::kUnavailable, "making a user namespace: {}", ErrnoText(errno));
  }
  if (const int error = MapOwnIds(0, uid, 0, gid); error != 0) {
    return ErrnoError(error, "mapping ids into a user namespace");
  }
  return absl::OkStatus();
}

absl::Status EnterMountNamespace() {
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", "/tmp", "tmpfs", 0, nullptr) != 0) {
    return Error(absl::StatusCode::kUnavailable, "mounting a /tmp of its own: {}",
                 ErrnoText(errno));
  }
  return absl::OkStatus();
}

absl::Status BecomeNobodyElse() {
  if (geteuid() != 0) {
    return Error(absl::StatusCode::kUnavailable,
                 "becoming a user that owns nothing counted needs root");
  }
  const pid_t parent = getppid();
  const uid_t user = 0x6b000000U + static_cast<uid_t>(getpid());
  if (setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0) {
    return ErrnoError(errno, "becoming user {}", user);
  }
  // Taking another user has cleared it (prctl(2)).
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return ErrnoError(errno, "tying it to its parent");
  if (getppid() != parent) _exit(0);
  return absl::OkStatus();
}

int ForkIdle(std::uint64_t flags) {
  const pid_t parent = getpid();
  // From a pid namespace of its own the parent's number reads as 0, living or dead.
  const bool unseen = (flags & CLONE_NEWPID) != 0;
  const UniqueFd pidfd(unseen ? static_cast<int>(syscall(SYS_pidfd_open, parent, 0)) : -1);
  const long pid = syscall(SYS_clone, flags | SIGCHLD, 0L, 0L, 0L, 0L);
  if (pid < 0) return -errno;
  if (pid > 0) return static_cast<int>(pid);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  pollfd ended = {pidfd.get(), POLLIN, 0};
  if (pidfd.valid() ? poll(&ended, 1, 0) > 0 : getppid() != parent && !unseen) _exit(0);
  for (;;) pause();
}

void EndChildren(std::vector<int>& pids) {
  for (const int pid : pids) kill(pid, SIGKILL);
  for (const int pid : pids) {
    while (waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) {
    }
  }
  pids.clear();
}

}  // namespace brood::limits
