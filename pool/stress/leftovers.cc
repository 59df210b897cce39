// SPDX-License-Identifier: Apache-2.0

#include "pool/stress/leftovers.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string_view>
#include <vector>

#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/process_stat.h"

namespace brood::limits {
namespace {

constexpr std::string_view kPrefix = "brood-stress-";
constexpr const char* kNotes = "/run/brood";

// When a process started, in clock ticks: with its pid, a name that is not used again. Empty for
// one that is gone or only waits to be reaped.
std::string StartTime(int pid) {
  const std::optional<ProcessStat> stat = StatOf(pid);
  return stat && stat->state != 'Z' ? std::to_string(stat->start_ticks) : std::string();
}

std::string RunName(pid_t owner) {
  return fmt::format("{}{}-{}", kPrefix, owner, StartTime(owner));
}

enum class Whose : std::uint8_t { kDead, kOwn };

// The names in `directory` of runs that are dead, or this process's own.
std::vector<std::string> RunsIn(const std::string& directory, Whose whose) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const std::size_t dash = name.find('-', kPrefix.size());
    if (dash == std::string::npos) continue;
    const auto pid =
        ParseNumber(std::string_view(name).substr(kPrefix.size(), dash - kPrefix.size()));
    if (!pid) continue;
    const auto owner = static_cast<int>(*pid);
    const bool chosen =
        whose == Whose::kOwn ? owner == getpid() : StartTime(owner) != name.substr(dash + 1);
    if (chosen) names.push_back(name);
  }
  return names;
}

absl::Status RemoveCgroup(const std::string& mount, const std::string& name) {
  const UniqueFd directory(open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  // Whoever was in it ends with the process that pushed, but perhaps is still about to. On v1
  // nothing tells when a cgroup is empty but rmdir itself.
  for (;;) {
    absl::Status removed = RemoveTree(directory.get(), name, deadline);
    if (removed.ok() || absl::IsNotFound(removed)) return absl::OkStatus();
    if (rmdir(fmt::format("{}/{}", mount, name).c_str()) == 0) return absl::OkStatus();
    if (std::chrono::steady_clock::now() > deadline) return removed;
    usleep(5000);
  }
}

absl::Status PutBack(const std::string& notes) {
  absl::Status status;
  std::ifstream file(notes);
  std::string path;
  // A value may have been set twice: the first note has what was there before the run.
  std::set<std::string> done;
  for (std::uint64_t value = 0; file >> path >> value;) {
    if (!path.starts_with("/proc/sys/") || path.find("..") != std::string::npos) continue;
    if (!done.insert(path).second) continue;
    if (const int error = WriteFileAt(AT_FDCWD, path.c_str(), std::to_string(value)); error != 0) {
      status.Update(ErrnoError(error, "putting {} back to {}", path, value));
    }
  }
  if (unlink(notes.c_str()) != 0 && errno != ENOENT) {
    status.Update(ErrnoError(errno, "removing {}", notes));
  }
  return status;
}

absl::Status Clear(Whose whose) {
  absl::Status status;
  for (const std::string& name : RunsIn(kNotes, whose)) {
    status.Update(PutBack(fmt::format("{}/{}", kNotes, name)));
  }
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) return host.status();
  for (const std::string& mount : std::set<std::string>{host->base, host->PlaceFor("pids")}) {
    if (mount.empty()) continue;
    for (const std::string& name : RunsIn(mount, whose)) status.Update(RemoveCgroup(mount, name));
  }
  // Those of dead launchers.
  status.Update(ParentCgroup::ClearLeftovers(*host).status());
  return status;
}

constexpr int kDyingMs = 120'000;

[[noreturn]] void Guard(int run, int life) {
  setsid();
  signal(SIGTERM, SIG_IGN);
  // Lowering it needs CAP_SYS_RESOURCE, and is a wish.
  WriteFileAt(AT_FDCWD, "/proc/self/oom_score_adj", "-1000");
  pollfd wait[2] = {{run, POLLIN, 0}, {life, POLLIN, 0}};
  while (poll(wait, 2, -1) < 0 && errno == EINTR) {
  }
  if ((wait[0].revents & POLLIN) == 0) _exit(0);  // it was dismissed
  // There is nobody left to tell. What was set goes back at once; what the dying still hold, such
  // as thousands of namespaces, takes its time: their last copy of the pipe goes with them.
  ClearLeftovers().IgnoreError();
  while (poll(&wait[1], 1, kDyingMs) < 0 && errno == EINTR) {
  }
  ClearLeftovers().IgnoreError();
  _exit(0);
}

}  // namespace

absl::StatusOr<std::string> MakeRunCgroup(const std::string& mount, pid_t owner) {
  const std::string path = fmt::format("{}/{}", mount, RunName(owner));
  if (mkdir(path.c_str(), 0755) != 0) {
    return Error(absl::StatusCode::kUnavailable, "making a cgroup {}: {}", path, ErrnoText(errno));
  }
  return path;
}

absl::Status SetForNow(const std::string& file, std::uint64_t value, pid_t owner) {
  std::uint64_t now = 0;
  if (!(std::ifstream(file) >> now)) return ErrnoError(errno, "reading {}", file);
  const std::string notes = fmt::format("{}/{}", kNotes, RunName(owner));
  if (mkdir(kNotes, 0755) != 0 && errno != EEXIST) return ErrnoError(errno, "making {}", kNotes);
  const UniqueFd note(
      open(notes.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  const std::string line = fmt::format("{} {}\n", file, now);
  if (!note.valid() ||
      write(note.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    return ErrnoError(errno, "noting in {} what {} was", notes, file);
  }
  const int error = WriteFileAt(AT_FDCWD, file.c_str(), std::to_string(value));
  return error == 0 ? absl::OkStatus() : ErrnoError(error, "setting {} to {}", file, value);
}

absl::Status ClearLeftovers() { return Clear(Whose::kDead); }
absl::Status ClearOwn() { return Clear(Whose::kOwn); }

absl::StatusOr<Guardian> Guardian::Hire() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const UniqueFd run(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!run.valid()) return ErrnoError(errno, "opening a pidfd for a guardian");
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "forking a guardian");
  if (pid == 0) {
    write_end.reset();
    Guard(run.get(), read_end.get());
  }
  return Guardian(pid, std::move(write_end));
}

Guardian::~Guardian() {
  if (!life_.valid()) return;  // moved from
  const char dismissed = 1;
  [[maybe_unused]] const ssize_t written = write(life_.get(), &dismissed, 1);
  life_.reset();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace brood::limits
