// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/leftovers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <thread>

#include "spawn/base/paths.h"
#include "spawn/host/mountinfo.h"
#include "spawn/host/process_tree.h"

namespace brood::bench {
namespace {

namespace fs = std::filesystem;

std::set<pid_t> Children() {
  const std::vector<int> pids = ChildrenOf(getpid());
  return {pids.begin(), pids.end()};
}

bool IsZombie(pid_t pid) {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
         info.si_pid == pid;
}

// Whether a cgroup's name ("4711-ab") holds the number of a process that lives: a launcher's.
bool BelongsToTheLiving(const std::string& name) {
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) == 0) return false;
  const auto pid = static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10));
  return kill(pid, 0) == 0 || errno == EPERM;
}

void AddCgroups(const fs::path& directory, std::vector<std::string>& out) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) return;
  out.push_back(directory);
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (at->is_directory(gone) && !gone && !BelongsToTheLiving(at->path().filename())) {
      AddCgroups(at->path(), out);
    }
  }
}

std::vector<std::string> Cgroups(const std::vector<std::string>& names) {
  std::vector<std::string> cgroups;
  if (names.empty()) return cgroups;
  for (const MountLine& mount : ReadOwnMounts()) {
    if (mount.type != "cgroup" && mount.type != "cgroup2") continue;
    for (const std::string& name : names) AddCgroups(fs::path(mount.point) / name, cgroups);
  }
  return cgroups;
}

// Below the directories, but not below what is mounted there.
std::set<std::string> Files(const std::vector<std::string>& directories) {
  std::set<std::string> mounted;
  for (const MountLine& mount : ReadOwnMounts()) mounted.insert(mount.point);
  std::set<std::string> files;
  for (const std::string& directory : directories) {
    std::error_code error;
    fs::recursive_directory_iterator at(directory, error);
    for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
      files.insert(at->path());
      if (mounted.contains(at->path())) at.disable_recursion_pending();
    }
  }
  return files;
}

std::vector<std::string> MountsIn(const Territory& territory) {
  std::vector<std::string> points;
  for (const MountLine& mount : ReadOwnMounts()) {
    for (const std::string& directory : territory.directories) {
      if (!IsUnder(mount.point, directory)) continue;
      points.push_back(mount.point);
      break;
    }
  }
  return points;
}

}  // namespace

std::string Leftovers::Text() const {
  std::string text =
      fmt::format("{} processes, of them {} zombies", processes.size(), zombies.size());
  const auto add = [&](std::string_view what, const std::vector<std::string>& list) {
    if (!list.empty()) text += fmt::format("; {} {}", what, fmt::join(list, " "));
  };
  add("mounts", mounts);
  add("cgroups", cgroups);
  add("files", files);
  return text;
}

LeftoverWatch::LeftoverWatch(Territory territory) : territory_(std::move(territory)) {
  prctl(PR_GET_CHILD_SUBREAPER, &was_subreaper_, 0, 0, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  processes_ = Children();
  for (const std::string& point : MountsIn(territory_)) ++mounts_[point];
  const std::vector<std::string> cgroups = Cgroups(territory_.cgroups);
  cgroups_.insert(cgroups.begin(), cgroups.end());
  files_ = Files(territory_.directories);
}

LeftoverWatch::~LeftoverWatch() { prctl(PR_SET_CHILD_SUBREAPER, was_subreaper_, 0, 0, 0); }

Leftovers LeftoverWatch::Look() const {
  Leftovers found;
  for (const pid_t pid : Children()) {
    if (processes_.contains(pid)) continue;
    found.processes.insert(pid);
    if (IsZombie(pid)) found.zombies.insert(pid);
  }
  std::map<std::string, int> seen;
  for (std::string& point : MountsIn(territory_)) {
    const auto before = mounts_.find(point);
    if (++seen[point] > (before == mounts_.end() ? 0 : before->second)) {
      found.mounts.push_back(std::move(point));
    }
  }
  for (std::string& cgroup : Cgroups(territory_.cgroups)) {
    if (!cgroups_.contains(cgroup)) found.cgroups.push_back(std::move(cgroup));
  }
  for (const std::string& file : Files(territory_.directories)) {
    if (files_.contains(file)) continue;
    if (found.files.empty() || !IsUnder(file, found.files.back())) found.files.push_back(file);
  }
  return found;
}

Leftovers LeftoverWatch::Find(std::chrono::milliseconds grace) const {
  const auto deadline = std::chrono::steady_clock::now() + grace;
  Leftovers found = Look();
  // A zombie waits for nobody but us.
  while (found.count() > found.zombies.size() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    found = Look();
  }
  return found;
}

Leftovers LeftoverWatch::Clear() const {
  Leftovers found = Find();
  // Killing a process may bring its children to us, and what a mount covered comes to light.
  for (int round = 0; round < 20 && found.count() > 0; ++round) {
    for (const pid_t pid : found.processes) {
      kill(pid, SIGKILL);
      (void)!TEMP_FAILURE_RETRY(waitpid(pid, nullptr, __WALL));
    }
    for (auto point = found.mounts.rbegin(); point != found.mounts.rend(); ++point) {
      umount2(point->c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    for (auto cgroup = found.cgroups.rbegin(); cgroup != found.cgroups.rend(); ++cgroup) {
      rmdir(cgroup->c_str());
    }
    if (found.mounts.empty()) {
      std::error_code ignored;
      for (const std::string& file : found.files) fs::remove_all(file, ignored);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    found = Look();
  }
  return found;
}

}  // namespace brood::bench
