// SPDX-License-Identifier: Apache-2.0

#include "spawn/cgroup/cgroup_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "spawn/base/numbers.h"
#include "spawn/base/split.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;

// "/sys/fs/cgroup/brood/PARENT/NAME", for sentences.
std::string Describe(int parent, const std::string& name) {
  return name == "." ? PathOfFd(parent) : fmt::format("{}/{}", PathOfFd(parent), name);
}

// A removed cgroup is seen as ENOENT by its name and as ENODEV through an open file of it.
bool IsGone(int error) { return error == ENOENT || error == ENODEV; }

absl::StatusOr<std::string> ReadEvents(int parent, const std::string& name) {
  std::string events;
  if (const int error = ReadFileAt(parent, (name + "/cgroup.events").c_str(), events); error != 0) {
    return ErrnoError(error, "reading cgroup.events of the cgroup {}", Describe(parent, name));
  }
  return events;
}

// Kills the members of a cgroup and of all below it. One pass: what forks meanwhile may escape.
void KillMembersOfTree(int parent, const std::string& name) {
  std::vector<std::string> pending{name};
  while (!pending.empty()) {
    const std::string path = std::move(pending.back());
    pending.pop_back();
    // A threaded cgroup has no answer here: its domain above lists its processes.
    for (const pid_t pid : MemberPids(parent, path).value_or(std::vector<pid_t>{})) {
      if (pid > 0) kill(pid, SIGKILL);  // to kill(2), 0 means our own process group
    }
    const auto directory = OpenDirectoryAt(parent, path.c_str());
    if (!directory.ok()) continue;
    const auto children = ChildNames(directory->get());
    if (!children.ok()) continue;
    for (const std::string& child : *children) pending.push_back(fmt::format("{}/{}", path, child));
  }
}

}  // namespace

absl::StatusOr<UniqueFd> OpenDirectoryAt(int directory, const char* path) {
  UniqueFd fd(openat(directory, path, kReadFlags | O_DIRECTORY));
  if (!fd.valid()) {
    const int error = errno;
    return ErrnoError(error, "opening the cgroup directory {}", path);
  }
  return fd;
}

absl::StatusOr<std::vector<std::string>> ChildNames(int directory) {
  // A second open file: readdir's position is that of the open file, and the caller's is not ours.
  BROOD_ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectoryAt(directory, "."));
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd.get()), closedir);
  if (listing == nullptr) {
    const int error = errno;
    return ErrnoError(error, "listing the cgroup {}", PathOfFd(directory));
  }
  fd.release();  // closedir closes it
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (const int error = errno; error != 0) {
    return ErrnoError(error, "listing the cgroup {}", PathOfFd(directory));
  }
  return names;
}

absl::StatusOr<std::vector<pid_t>> MemberPids(int parent, const std::string& name) {
  std::string text;
  if (const int error = ReadFileAt(parent, (name + "/cgroup.procs").c_str(), text); error != 0) {
    return ErrnoError(error, "reading cgroup.procs of the cgroup {}", Describe(parent, name));
  }
  std::vector<pid_t> pids;
  for (const std::string_view line : Split(text, '\n')) {
    if (const auto pid = ParseNumber(line)) pids.push_back(static_cast<pid_t>(*pid));
  }
  return pids;
}

std::string PathOfFd(int fd) {
  char path[4096];
  const ssize_t length = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), path, sizeof(path));
  if (length <= 0) return fmt::format("descriptor {}", fd);
  return std::string(path, static_cast<std::size_t>(length));
}

absl::Status KillTree(int parent, const std::string& name, CgroupDeadline deadline) {
  const int error = WriteFileAt(parent, (name + "/cgroup.kill").c_str(), "1");
  if (error == 0) return absl::OkStatus();
  // Either the kernel has no such file or there is no such cgroup; cgroup.procs is always there.
  if (error == ENOENT && faccessat(parent, (name + "/cgroup.procs").c_str(), F_OK, 0) == 0) {
    return KillTreeByPid(parent, name, deadline);
  }
  return ErrnoError(error == ENODEV ? ENOENT : error, "killing all processes of the cgroup {}",
                    Describe(parent, name));
}

absl::Status KillTreeByPid(int parent, const std::string& name, CgroupDeadline deadline) {
  // What is frozen (Linux 5.2) can neither fork nor exit by itself, so a number read from
  // cgroup.procs still means the same process when it is killed; SIGKILL works on the frozen.
  // Without the freezer, the passes below are what catches new children.
  const std::string freeze = name + "/cgroup.freeze";
  WriteFileAt(parent, freeze.c_str(), "1");
  absl::Status status;
  do {
    KillMembersOfTree(parent, name);
    status = AwaitEmpty(parent, name, std::min(deadline, steady_clock::now() + milliseconds(50)));
  } while (absl::IsDeadlineExceeded(status) && steady_clock::now() < deadline);
  WriteFileAt(parent, freeze.c_str(), "0");
  return status;
}

absl::StatusOr<bool> IsPopulated(int parent, const std::string& name) {
  BROOD_ASSIGN_OR_RETURN(const std::string events, ReadEvents(parent, name));
  return NumberBehind(events, "populated") != 0U;
}

absl::StatusOr<bool> IsFrozen(int parent, const std::string& name) {
  BROOD_ASSIGN_OR_RETURN(const std::string events, ReadEvents(parent, name));
  return NumberBehind(events, "frozen") == 1U;
}

absl::Status AwaitEmpty(int parent, const std::string& name, CgroupDeadline deadline) {
  const UniqueFd events(openat(parent, (name + "/cgroup.events").c_str(), kReadFlags));
  if (!events.valid()) {
    const int error = errno;
    return ErrnoError(error, "waiting for the cgroup {} to empty", Describe(parent, name));
  }
  while (true) {
    // Reading takes note of the last event, so that poll reports any that follows: none is missed.
    char text[256];
    const ssize_t length = TEMP_FAILURE_RETRY(pread(events.get(), text, sizeof(text), 0));
    if (length < 0) {
      const int error = errno;
      if (IsGone(error)) return absl::OkStatus();  // removed meanwhile, hence empty
      return ErrnoError(error, "reading cgroup.events of the cgroup {}", Describe(parent, name));
    }
    const std::string_view now(text, static_cast<std::size_t>(length));
    if (NumberBehind(now, "populated") == 0U) return absl::OkStatus();

    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    if (left.count() <= 0) {
      return Error(absl::StatusCode::kDeadlineExceeded,
                   "waiting for the cgroup {} to empty: processes are still in it (its "
                   "cgroup.procs lists them); kill it first, or look for one in uninterruptible "
                   "sleep",
                   Describe(parent, name));
    }
    pollfd wait{events.get(), POLLPRI, 0};
    constexpr milliseconds kLongest{60'000};  // poll's int of milliseconds would overflow
    if (poll(&wait, 1, static_cast<int>(std::min(left, kLongest).count())) < 0 && errno != EINTR) {
      return ErrnoError(errno, "polling cgroup.events");
    }
  }
}

absl::Status RemoveTree(int parent, const std::string& name, CgroupDeadline deadline) {
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0) return absl::OkStatus();
  if (const int error = errno; error != EBUSY) {
    return ErrnoError(error, "removing the cgroup {}", Describe(parent, name));
  }

  // EBUSY means cgroups below, or processes. Walks down with one descriptor for the current level
  // and back up by "..": a worker may have nested cgroups deeper than we may have descriptors.
  BROOD_ASSIGN_OR_RETURN(UniqueFd current, OpenDirectoryAt(parent, "."));
  std::vector<std::vector<std::string>> pending{{name}};  // still to remove, for each level
  while (true) {
    if (pending.back().empty()) {
      pending.pop_back();
      if (pending.empty()) return absl::OkStatus();
      BROOD_ASSIGN_OR_RETURN(current, OpenDirectoryAt(current.get(), ".."));
    }
    const std::string& next = pending.back().back();
    const int error = unlinkat(current.get(), next.c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
    if (error == 0 || IsGone(error)) {
      pending.back().pop_back();
      continue;
    }
    if (error != EBUSY) {
      return ErrnoError(error, "removing the cgroup {}", Describe(current.get(), next));
    }
    auto child = OpenDirectoryAt(current.get(), next.c_str());
    if (absl::IsNotFound(child.status())) continue;
    if (!child.ok()) return child.status();
    BROOD_ASSIGN_OR_RETURN(std::vector<std::string> below, ChildNames(child->get()));
    if (below.empty()) {
      BROOD_RETURN_IF_ERROR(AwaitEmpty(child->get(), ".", deadline));
    } else {
      current = *std::move(child);
      pending.push_back(std::move(below));
    }
    if (steady_clock::now() >= deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded,
                   "removing the cgroup {}: time ran out with cgroups left in it; kill it first, "
                   "so that none is added",
                   Describe(parent, name));
    }
  }
}

}  // namespace brood
