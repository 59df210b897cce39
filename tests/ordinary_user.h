// SPDX-License-Identifier: Apache-2.0

// What it is to be an ordinary user, and to be inside a container: for new processes of tests that
// root runs. All of it ends with the process, or with the test.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#include "spawn/host/cgroup_host.h"

namespace brood {

// Debian's nobody. It has a name, which newuidmap wants, and no ids of its own.
inline constexpr uid_t kOrdinaryUser = 65534;
inline constexpr const char* kOrdinaryName = "nobody";
// A range for it: in nobody's real /etc/subuid, and not among the ids that brood takes as root.
inline constexpr unsigned kOrdinaryRange = 1'500'000'000;

// The functions below are for new processes, and end them with 98 when something cannot be done.
inline void MustDo(bool done) {
  if (!done) _exit(98);
}

inline void BecomeOrdinary() {
  MustDo(setgroups(0, nullptr) == 0);
  MustDo(setresgid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0);
  MustDo(setresuid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0);
  // A process that has changed its ids belongs to root, as one that was exec'd set-uid.
  MustDo(prctl(PR_SET_DUMPABLE, 1) == 0);
}

// Mounts that come are seen by this process and its children alone.
inline void OwnMounts() {
  MustDo(unshare(CLONE_NEWNS) == 0);
  MustDo(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
}

inline void Cover(const char* path, const char* with) {
  MustDo(mount(with, path, nullptr, MS_BIND, nullptr) == 0);
}

// Of root still: /etc/subuid and /etc/subgid, here alone, have a range for the ordinary user.
inline void GiveSubordinateIds(const std::string& scratch) {
  OwnMounts();
  const std::string file = scratch + "/subids";
  std::ofstream(file) << kOrdinaryName << ":" << kOrdinaryRange << ":65536\n";
  Cover("/etc/subuid", file.c_str());
  Cover("/etc/subgid", file.c_str());
}

// As unshare -Ur does.
inline void BecomeRootInside() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  MustDo(unshare(CLONE_NEWUSER) == 0);
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/gid_map") << "0 " << gid << " 1";
  std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1";
}

// From now on these system calls fail with `error`, for all that this process starts, too.
inline void Refuse(std::initializer_list<long> calls, int error) {
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const long call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  MustDo(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  MustDo(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0);
}

inline void RefuseIoUring(int error) {
  Refuse({SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}, error);
}

// What Docker's default profile refuses to a container without CAP_SYS_ADMIN, as far as brood could
// want it. clone(2) is refused with namespaces only, which cannot be told here, since brood has no
// use for it without them: fork does that.
inline void EnterDockersFilter() {
  Refuse(
      {SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_open_tree,
       SYS_move_mount, SYS_mount_setattr, SYS_fsopen, SYS_fsmount, SYS_sethostname, SYS_keyctl,
       SYS_add_key, SYS_request_key, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register},
      EPERM);
  Refuse({SYS_clone3}, ENOSYS);
}

// A cgroup that root has handed to the ordinary user as systemd does: its directory and three of
// its files.
class DelegatedCgroup {
 public:
  DelegatedCgroup() {
    const auto host = CgroupHost::Discover();
    if (!host.ok() || host->mount.empty() || geteuid() != 0) return;
    const std::string path = fmt::format("{}/brood_test_{}", host->mount, getpid());
    if (mkdir(path.c_str(), 0755) != 0) return;
    path_ = path;
    controllers_ = host->controllers;
    for (const std::string& each : controllers_) {
      std::ofstream(host->mount + "/cgroup.subtree_control") << "+" << each;
    }
    for (const char* each : {"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"}) {
      EXPECT_EQ(chown((path + each).c_str(), kOrdinaryUser, kOrdinaryUser), 0) << path << each;
    }
  }
  ~DelegatedCgroup() {
    if (path_.empty()) return;
    std::error_code ignored;
    std::vector<std::filesystem::path> below;
    for (const auto& each : std::filesystem::recursive_directory_iterator(path_, ignored)) {
      if (each.is_directory(ignored)) below.push_back(each.path());
    }
    for (auto each = below.rbegin(); each != below.rend(); ++each) rmdir(each->c_str());
    // The last of its processes may take a moment to leave.
    for (int i = 0; i < 200 && rmdir(path_.c_str()) != 0 && errno == EBUSY; ++i) usleep(10'000);
  }
  DelegatedCgroup(const DelegatedCgroup&) = delete;
  DelegatedCgroup& operator=(const DelegatedCgroup&) = delete;

  bool there() const { return !path_.empty(); }
  const std::string& path() const { return path_; }
  bool Has(const std::string& controller) const {
    return std::find(controllers_.begin(), controllers_.end(), controller) != controllers_.end();
  }
  // Of root still: the calling process moves in.
  void Enter() const { std::ofstream(path_ + "/cgroup.procs") << getpid() << std::flush; }

 private:
  std::string path_;
  std::vector<std::string> controllers_;
};

}  // namespace brood
