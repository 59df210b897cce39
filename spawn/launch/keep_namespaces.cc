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

KeptNamespaces KeepNamespaces(const Plan& plan, int pidfd, int proc_fd, const Mailbox& box) {
  constexpr unsigned long kGetMount = 0xff03;  // PIDFD_GET_MNT_NAMESPACE, 6.11
  constexpr unsigned long kGetNet = 0xff04;    // PIDFD_GET_NET_NAMESPACE, 6.11
  std::uint64_t ending = plan.clone_flags;
  if (__atomic_load_n(&box.cloner_ended, __ATOMIC_RELAXED) != 0) ending |= plan.slot_flags;
  const auto has = [&](std::uint64_t flag) { return (ending & flag) != 0; };
  KeptNamespaces kept;
  if (has(kernel::kCloneNewNs)) kept[0] = Keep(kGetMount, "mnt", pidfd, proc_fd, box.pid);
  if (has(kernel::kCloneNewNet)) kept[1] = Keep(kGetNet, "net", pidfd, proc_fd, box.pid);
  return kept;
}

}  // namespace brood
