// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/bare_child.h"

#include <linux/fcntl.h>
#include <linux/if.h>
#include <linux/prctl.h>
#include <linux/sockios.h>

namespace brood::bench {
namespace {

[[noreturn]] void Give(BareChild& child, BareStep step, sys::Result result) {
  child.failed = step;
  child.error = static_cast<std::int32_t>(-result);
  sys::ExitGroup(125);
}

sys::Result WriteIdMap(const BareChild& child) {
  const auto fd = static_cast<int>(
      sys::OpenAt(static_cast<int>(AT_FDCWD), "/proc/self/uid_map", O_WRONLY | O_CLOEXEC));
  if (fd < 0) return fd;
  const sys::Result written = sys::Write(fd, child.uid_map, child.uid_map_bytes);
  sys::Close(fd);
  return written;
}

sys::Result Loopback() {
  const auto fd = static_cast<int>(sys::Socket(/*AF_INET*/ 2, /*SOCK_DGRAM*/ 2 | O_CLOEXEC, 0));
  if (fd < 0) return fd;
  ifreq request = {};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  const sys::Result result = sys::Ioctl(fd, SIOCSIFFLAGS, &request);
  sys::Close(fd);
  return result;
}

[[noreturn]] void HoldUntilKilled() {
  sys::Prctl(PR_SET_PDEATHSIG, /*SIGKILL*/ 9);
  for (;;) sys::Ppoll(nullptr, 0, nullptr);
}

sys::Result PivotTo(const char* path) {
  sys::Result result = sys::Chdir(path);
  if (result >= 0) result = sys::PivotRoot(".", ".");
  // The old root is mounted over the new one now, and "." is it.
  if (result >= 0) result = sys::Umount2(".", /*MNT_DETACH*/ 2);
  return result;
}

sys::Result SetRlimits(std::uint32_t count) {
  const std::uint64_t limit[2] = {1024, 4096};
  for (std::uint32_t i = 0; i < count; ++i) {
    const sys::Result result = sys::Prlimit(/*RLIMIT_NOFILE*/ 7, limit);
    if (result < 0) return result;
  }
  return 0;
}

sys::Result DropCapabilities() {
  for (unsigned long capability = 0;; ++capability) {
    if (sys::Prctl(PR_CAPBSET_READ, capability) < 0) break;  // beyond the last one
    const sys::Result result = sys::Prctl(PR_CAPBSET_DROP, capability);
    if (result < 0) return result;
  }
  const kernel::CapHeader header;
  const kernel::CapData none[2] = {};
  return sys::Capset(header, none);
}

// Whoever shares its parent's descriptors holds the writing end, too: if that one is killed, there
// is no end of file.
sys::Result Hold(int fd, int parent) {
  sys::Prctl(PR_SET_PDEATHSIG, /*SIGKILL*/ 9);
  // It may have died before that. From a pid namespace of our own it is seen as 0.
  const sys::Result now = sys::Call(__NR_getppid);
  if (now != 0 && now != parent) sys::ExitGroup(0);
  char byte = 0;
  return sys::Read(fd, &byte, 1);
}

}  // namespace

void BareChildMain(void* argument) {
  BareChild& child = *static_cast<BareChild*>(argument);
  const auto step = [&](BareStep name, sys::Result result) {
    if (result < 0) Give(child, name, result);
  };
  if (child.wait_forever != 0) HoldUntilKilled();
  for (std::uint32_t i = 0; i < child.enter_count; ++i) {
    step(BareStep::kEnter, sys::Setns(child.enter[i].fd, child.enter[i].flag));
  }
  if (child.unshare_flags != 0) step(BareStep::kUnshare, sys::Unshare(child.unshare_flags));
  if (child.uid_map != nullptr) step(BareStep::kIdMap, WriteIdMap(child));
  if (child.loopback) step(BareStep::kLoopback, Loopback());
  if (child.mounts) {
    // Never without private propagation: the mounts would show up on the host.
    step(BareStep::kPropagation,
         sys::Mount(nullptr, "/", nullptr, kernel::kMsRec | kernel::kMsPrivate, nullptr));
    step(BareStep::kProc, sys::Mount("proc", "/proc", "proc", kernel::kMsNosuid, nullptr));
    step(BareStep::kTmpfs, sys::Mount("tmpfs", "/tmp", "tmpfs", kernel::kMsNosuid, nullptr));
  }
  if (child.pivot_to != nullptr) step(BareStep::kPivot, PivotTo(child.pivot_to));
  if (child.rlimits != 0) step(BareStep::kRlimit, SetRlimits(child.rlimits));
  if (child.no_new_privs) {
    step(BareStep::kNoNewPrivs, sys::Prctl(PR_SET_NO_NEW_PRIVS, 1));
  }
  // Before the capabilities go: without no_new_privs it needs one.
  if (child.filter != nullptr) {
    step(BareStep::kFilter, sys::Seccomp(/*SECCOMP_SET_MODE_FILTER*/ 1, 0, child.filter));
  }
  if (child.drop_capabilities) step(BareStep::kCapability, DropCapabilities());
  if (child.hold_fd >= 0) step(BareStep::kHold, Hold(child.hold_fd, child.parent));
  if (child.path != nullptr) {
    step(BareStep::kExec, sys::Execve(child.path, child.argv, child.envp));
  }
  sys::ExitGroup(0);
}

}  // namespace brood::bench
