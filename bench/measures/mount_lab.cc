// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/mount_lab.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "spawn/base/status.h"

namespace brood::bench {

absl::Status EnterMountLab(const std::filesystem::path& scratch, int mounts) {
  if (unshare(CLONE_NEWNS) != 0) return ErrnoError(errno, "making a mount namespace");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return ErrnoError(errno, "making the mount tree private");
  }
  if (mount("lab", scratch.c_str(), "tmpfs", 0, nullptr) != 0) {
    return ErrnoError(errno, "mounting a tmpfs on {}", scratch.string());
  }
  if (chdir(scratch.c_str()) != 0) return ErrnoError(errno, "entering {}", scratch.string());
  for (const char* const name : {"old", "a", "b", "m"}) {
    if (mkdir(name, 0755) != 0) return ErrnoError(errno, "making the directory {}", name);
  }
  if (syscall(SYS_pivot_root, ".", "old") != 0) return ErrnoError(errno, "pivot_root");
  if (chdir("/") != 0 || umount2("/old", MNT_DETACH) != 0) {
    return ErrnoError(errno, "leaving the host's tree");
  }
  for (int i = 1; i < mounts; ++i) {
    const std::string target = fmt::format("/m/{}", i);
    if (mkdir(target.c_str(), 0755) != 0 ||
        mount("/a", target.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return ErrnoError(errno, "making mount {} of {}", i, mounts);
    }
  }
  return absl::OkStatus();
}

}  // namespace brood::bench
