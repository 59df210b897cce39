#include "spawn/keep_mounts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

namespace brood {

UniqueFd KeepMounts(int pidfd, int proc_fd, int pid) {
  constexpr unsigned long kPidfdGetMntNamespace = 0xff03;  // PIDFD_GET_MNT_NAMESPACE, 6.11
  const int fd = ioctl(pidfd, kPidfdGetMntNamespace, 0);
  if (fd >= 0) return UniqueFd(fd);
  return UniqueFd(openat(proc_fd, fmt::format("{}/ns/mnt", pid).c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace brood
