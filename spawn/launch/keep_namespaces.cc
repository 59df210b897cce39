// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/keep_namespaces.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

namespace brood {
namespace {

UniqueFd Keep(unsigned long request, const char* name, int pidfd, int proc_fd, int pid) {
  const int fd = ioctl(pidfd, request, 0);
  if (fd >= 0) return UniqueFd(fd);
  return UniqueFd(
      openat(proc_fd, fmt::format("{}/ns/{}", pid, name).c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

KeptNamespaces KeepNamespaces(const Spec& spec, int pidfd, int proc_fd, int pid) {
  constexpr unsigned long kGetIpc = 0xff02;    // PIDFD_GET_IPC_NAMESPACE, 6.11
  constexpr unsigned long kGetMount = 0xff03;  // PIDFD_GET_MNT_NAMESPACE, 6.11
  constexpr unsigned long kGetNet = 0xff04;    // PIDFD_GET_NET_NAMESPACE, 6.11
  KeptNamespaces kept;
  if (spec.is_new(NamespaceKind::kMount)) kept[0] = Keep(kGetMount, "mnt", pidfd, proc_fd, pid);
  if (spec.is_new(NamespaceKind::kNet)) kept[1] = Keep(kGetNet, "net", pidfd, proc_fd, pid);
  if (spec.is_new(NamespaceKind::kIpc)) kept[2] = Keep(kGetIpc, "ipc", pidfd, proc_fd, pid);
  return kept;
}

}  // namespace brood
