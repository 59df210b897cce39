// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/favor_dynmods.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/host/mountinfo.h"

namespace brood::bench {
namespace {

constexpr char kOption[] = "favordynmods";

// The options that the hierarchy has: a remount sets all of them anew, and would drop those that it
// does not name.
absl::StatusOr<std::string> HierarchyOptions(const std::string& mount) {
  for (const MountLine& line : ReadOwnMounts()) {
    if (line.point != mount || line.type != "cgroup2") continue;
    std::string kept;
    for (const std::string& option : line.super_options) {
      if (option != "rw" && option != "ro") kept += (kept.empty() ? "" : ",") + option;
    }
    return kept;
  }
  return Error(absl::StatusCode::kNotFound, "{} is not mounted as cgroup2", mount);
}

int Remount(const std::string& mount, const std::string& options) {
  // The flags of the mount itself stay what they are only when they are named.
  constexpr unsigned long kFlags = MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  return ::mount(nullptr, mount.c_str(), nullptr, kFlags, options.c_str()) == 0 ? 0 : errno;
}

[[noreturn]] void Guard(const std::string& mount, const std::string& before,
                        const std::string& wanted, int life, int answer) {
  // A terminal's ^C is for the run; this one lives until that is over.
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  const int error = Remount(mount, wanted);
  if (write(answer, &error, sizeof(error)) == sizeof(error) && error == 0) {
    char byte = 0;
    while (read(life, &byte, 1) < 0 && errno == EINTR) {
    }
  }
  if (error == 0) Remount(mount, before);
  _exit(0);
}

}  // namespace

absl::StatusOr<FavorDynmods> FavorDynmods::Set(const std::string& mount) {
  BROOD_ASSIGN_OR_RETURN(const std::string before, HierarchyOptions(mount));
  if (before.find(kOption) != std::string::npos) {
    return Error(absl::StatusCode::kFailedPrecondition, "{} has {} already", mount, kOption);
  }
  const std::string wanted = before.empty() ? kOption : before + "," + kOption;
  std::array<int, 2> life{};
  std::array<int, 2> answer{};
  if (pipe2(life.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  const UniqueFd life_read(life[0]);
  UniqueFd life_write(life[1]);
  if (pipe2(answer.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  const UniqueFd answer_read(answer[0]);
  UniqueFd answer_write(answer[1]);
  const pid_t guardian = fork();
  if (guardian < 0) return ErrnoError(errno, "forking a guardian for {}", mount);
  if (guardian == 0) {
    close(life[1]);
    Guard(mount, before, wanted, life[0], answer[1]);
  }
  answer_write.reset();
  FavorDynmods set(guardian, std::move(life_write));
  int error = ECHILD;
  if (read(answer_read.get(), &error, sizeof(error)) != sizeof(error)) error = ECHILD;
  if (error == EINVAL) {
    return Error(absl::StatusCode::kUnimplemented, "this kernel's cgroup2 has no {} (Linux 6.0)",
                 kOption);
  }
  if (error != 0) return ErrnoError(error, "remounting {} with {}", mount, wanted);
  return set;
}

FavorDynmods::~FavorDynmods() {
  if (!life_.valid()) return;  // moved from
  life_.reset();
  int wait_status = 0;
  while (waitpid(guardian_, &wait_status, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace brood::bench
