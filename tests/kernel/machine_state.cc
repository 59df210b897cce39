// SPDX-License-Identifier: Apache-2.0

#include "tests/kernel/machine_state.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/cgroup_host.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

void AddDescriptors(std::vector<std::string>& lines) {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) {
    ADD_FAILURE() << "cannot list /proc/self/fd: " << ErrnoText(errno);
    return;
  }
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.' || std::stoi(entry->d_name) == dirfd(directory)) continue;
    char target[4096];
    const ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target));
    lines.push_back(fmt::format("fd {} -> {}", entry->d_name,
                                std::string_view(target, length < 0 ? 0 : length)));
  }
  closedir(directory);
}

void AddMounts(std::vector<std::string>& lines) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) lines.push_back("mount " + line);
}

// Whether `name` ("4711-ab", "brood_test_4711") names another process that lives: what such a one
// makes and removes meanwhile is its own affair.
bool BelongsToAnother(std::string_view name) {
  for (std::size_t at = 0; at < name.size(); ++at) {
    if (std::isdigit(static_cast<unsigned char>(name[at])) == 0) continue;
    const auto pid =
        static_cast<pid_t>(std::strtol(std::string(name.substr(at)).c_str(), nullptr, 10));
    return pid != getpid() && (kill(pid, 0) == 0 || errno == EPERM);
  }
  return false;
}

// Adds the cgroups below `directory`, whose path below the base is `name`.
void AddCgroupsBelow(const fs::path& directory, const std::string& name,
                     std::vector<std::string>& lines) {
  std::error_code error;
  bool any_of_another = false;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (!at->is_directory(gone) || gone) continue;
    const std::string child = at->path().filename();
    if (BelongsToAnother(child)) {
      any_of_another = true;
      continue;
    }
    AddCgroupsBelow(at->path(), fmt::format("{}/{}", name, child), lines);
  }
  if (!any_of_another) lines.push_back("cgroup " + name);
}

void AddCgroups(std::vector<std::string>& lines) {
  const auto host = CgroupHost::Discover();
  if (!host.ok() || host->base.empty()) return;
  std::error_code error;
  for (fs::directory_iterator at(host->base, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    // What the launcher moved itself into to enable controllers stays for good (kLauncherLeaf).
    if (name.starts_with("brood") && !BelongsToAnother(name)) {
      AddCgroupsBelow(at->path(), name, lines);
    }
  }
}

void AddChildren(std::vector<std::string>& lines) {
  std::error_code error;
  for (fs::directory_iterator at("/proc/self/task", error), end; !error && at != end;
       at.increment(error)) {
    const fs::path children = at->path() / "children";
    if (!fs::exists(children)) {
      if (!fs::exists(at->path())) continue;  // a thread that has just ended
      ADD_FAILURE() << "missing: " << children << " (CONFIG_PROC_CHILDREN)";
      return;
    }
    std::ifstream pids(children);
    for (std::string pid; pids >> pid;) {
      // "4711 (name with spaces) S ..."
      const std::string stat = TextOf("/proc/" + pid + "/stat");
      const std::size_t open = stat.find('(');
      const std::size_t close = stat.rfind(')');
      if (open == std::string::npos || close + 2 >= stat.size()) continue;
      lines.push_back(
          fmt::format("child {} {} {}", pid, stat[close + 2], stat.substr(open, close + 1 - open)));
    }
  }
}

}  // namespace

MachineState MachineState::Take() {
  MachineState state;
  AddDescriptors(state.lines_);
  AddMounts(state.lines_);
  AddCgroups(state.lines_);
  AddChildren(state.lines_);
  std::sort(state.lines_.begin(), state.lines_.end());
  return state;
}

std::string MachineState::Diff(const MachineState& before, const MachineState& after) {
  std::vector<std::string> only_before;
  std::vector<std::string> only_after;
  std::set_difference(before.lines_.begin(), before.lines_.end(), after.lines_.begin(),
                      after.lines_.end(), std::back_inserter(only_before));
  std::set_difference(after.lines_.begin(), after.lines_.end(), before.lines_.begin(),
                      before.lines_.end(), std::back_inserter(only_after));
  std::string diff;
  for (const std::string& line : only_before) {
    // A dead launcher's cgroups may be cleared by whoever comes next.
    if (!line.starts_with("cgroup ")) diff += "- " + line + "\n";
  }
  for (const std::string& line : only_after) diff += "+ " + line + "\n";
  return diff;
}

void LeavesNothing::SetUp() { before_ = MachineState::Take(); }

void LeavesNothing::TearDown() {
  if (!before_) return;
  // Other launchers on the machine make and remove the cgroups that all share; and the kernel
  // takes its time with a dying mount namespace. What this test left stays, however long we look.
  constexpr int kLooks = 50;
  std::string diff;
  for (int look = 0; look < kLooks; ++look) {
    diff = MachineState::Diff(*before_, MachineState::Take());
    if (diff.empty()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ADD_FAILURE() << "the test did not leave the machine as it found it:\n" << diff;
}

}  // namespace brood
