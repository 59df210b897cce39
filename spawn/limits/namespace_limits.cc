// SPDX-License-Identifier: Apache-2.0

// Limits of namespaces, and of the mounts in one.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>

#include "spawn/base/kernel.h"
#include "spawn/base/text_file.h"
#include "spawn/host/mountinfo.h"
#include "spawn/limits/readings.h"
#include "spawn/spec.h"

namespace brood {
namespace internal {
namespace {

// In this order: whoever makes several at once makes the user namespace first.
constexpr NamespaceKind kKinds[] = {
    NamespaceKind::kUser, NamespaceKind::kMount, NamespaceKind::kPid,    NamespaceKind::kNet,
    NamespaceKind::kIpc,  NamespaceKind::kUts,   NamespaceKind::kCgroup, NamespaceKind::kTime};

// How deep the pid namespace is that this process is in, as far as this /proc sees.
std::uint64_t PidDepth(const std::string& proc) {
  std::ifstream status(proc + "/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream numbers(line.substr(6));
    const auto all = std::distance(std::istream_iterator<std::uint64_t>(numbers), {});
    return all > 0 ? static_cast<std::uint64_t>(all) - 1 : 0;  // the outermost is no depth
  }
  return 0;
}

// Whether one more namespace of this kind is refused with ENOSPC, by making it in a child.
bool Refused(std::uint64_t flag) {
  // fork(2) without an exit signal, which a host program's SIGCHLD handler would see. The child
  // calls the kernel and nothing else, so threads that held locks do not matter.
  const long pid = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L);
  if (pid < 0) return false;
  if (pid == 0) {
    int error = syscall(SYS_unshare, flag) == 0 ? 0 : errno;
    if (error == EPERM) {
      error = syscall(SYS_unshare, kernel::kCloneNewUser | flag) == 0 ? 0 : errno;
    }
    syscall(SYS_exit_group, error == ENOSPC ? 1 : 0);
  }
  int status = 0;
  while (waitpid(static_cast<pid_t>(pid), &status, __WALL) < 0) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

// When the caller has told how many there are and how deep, a single kind that was refused below
// its own maximum can only have been refused by a user namespace outside.
void ConcludeOuterLimit(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  if (!question.made || !question.depth) return;
  const auto is_full = [](const LimitReading& limit) { return limit.Full(); };
  if (std::any_of(limits.begin(), limits.end(), is_full)) return;
  LimitReading* only = nullptr;
  for (LimitReading& limit : limits) {
    if (!limit.name.starts_with("user.max_")) continue;
    if (only != nullptr) return;
    only = &limit;
  }
  if (only == nullptr) return;
  only->refused = true;
  only->where = "a user namespace outside this one";
}

}  // namespace

void AddNamespaces(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  const bool may_try = !question.made && !question.depth && question.proc == "/proc";
  for (const NamespaceKind kind : kKinds) {
    if ((question.namespaces & NamespaceFlag(kind)) == 0) continue;
    LimitReading reading =
        Sysctl(question, fmt::format("user.max_{}_namespaces", NamespaceProcName(kind)),
               fmt::format("{} namespaces of one user, here and in each user namespace outside",
                           NamespaceName(kind)));
    reading.used = question.made;
    // None can be made where none may be: that decides without a count.
    if (reading.maximum == 0) reading.used = 0;
    if (!reading.Full() && may_try) reading.refused = Refused(NamespaceFlag(kind));
    limits.push_back(std::move(reading));
  }
  if ((question.namespaces & kernel::kCloneNewPid) != 0) {
    limits.push_back({.name = "pid namespace depth",
                      .what = "pid namespaces inside each other",
                      .where = "built into the kernel",
                      .maximum = kernel::kPidNamespaceDepth,
                      .used = question.depth ? *question.depth : PidDepth(question.proc)});
  }
  if ((question.namespaces & kernel::kCloneNewUser) != 0) {
    limits.push_back({.name = "user namespace depth",
                      .what = "user namespaces inside each other",
                      .where = "built into the kernel",
                      .maximum = kernel::kUserNamespaceDepth,
                      .used = question.depth});
  }
  ConcludeOuterLimit(question, limits);
}

namespace {

// How many mounts lie under the root's, one below the other, as statmount(2) tells to whoever owns
// the mount namespace (Linux 6.8): the initial file system, and nullfs since 7.0. None: not told.
std::optional<std::uint64_t> MountsUnderRoot() {
  constexpr long kStatmount = 457;
  constexpr unsigned kUniqueMountId = 0x4000;  // STATX_MNT_ID_UNIQUE
  constexpr std::uint64_t kBasic = 2;          // STATMOUNT_MNT_BASIC
  struct Question {
    std::uint32_t size = 24;
    std::uint32_t spare = 0;
    std::uint64_t mount = 0;
    std::uint64_t wanted = kBasic;
  };
  struct Answer {
    std::uint32_t size, options;
    std::uint64_t mask;
    std::uint32_t device[2];
    std::uint64_t magic;
    std::uint32_t flags, type;
    std::uint64_t mount, parent;
    std::uint64_t rest[64];
  };
  struct statx root = {};
  if (statx(AT_FDCWD, "/", 0, kUniqueMountId, &root) != 0 ||
      (root.stx_mask & kUniqueMountId) == 0) {
    return std::nullopt;
  }
  Question question;
  question.mount = root.stx_mnt_id;
  for (std::uint64_t under = 0; under < 16; ++under) {
    Answer answer{};
    if (syscall(kStatmount, &question, &answer, sizeof(answer), 0) != 0) return std::nullopt;
    if (answer.parent == answer.mount) return under;
    question.mount = answer.parent;
  }
  return std::nullopt;
}

// Those of this process's mount namespace. What lies under its root is counted by the kernel but
// not listed; that there is something, the root's parent tells.
std::uint64_t Mounts(const std::string& proc) {
  const std::vector<MountLine> mounts = ParseMountinfo(TextOf(proc + "/self/mountinfo"));
  const bool root_is_covering = std::any_of(
      mounts.begin(), mounts.end(),
      [](const MountLine& each) { return each.point == "/" && each.id != each.parent; });
  const std::uint64_t count = mounts.size();
  if (!root_is_covering) return count;
  return count + (proc == "/proc" ? MountsUnderRoot() : std::nullopt).value_or(1);
}

}  // namespace

void AddMounts(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading = Sysctl(question, "fs.mount-max", "mounts of one mount namespace");
  reading.used = Mounts(question.proc);
  limits.push_back(std::move(reading));
}

}  // namespace internal

}  // namespace brood
