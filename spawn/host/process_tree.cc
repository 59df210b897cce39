// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/process_tree.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <sstream>
#include <string>

#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/process_stat.h"

namespace brood {
namespace {

// Those of what is looked through for a reader; a command with more is taken not to read.
constexpr std::size_t kMostLookedAt = 512;

using Stopped = std::map<int, UniqueFd>;

void Stop(int pid, int parent, Stopped& stopped) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  // Asked again now that its number can have become nobody else's.
  if (!pidfd.valid() || ParentOf(pid) != parent) return;
  syscall(SYS_pidfd_send_signal, pidfd.get(), SIGSTOP, nullptr, 0);
  stopped.emplace(pid, std::move(pidfd));
}

// The file descriptor that a system call reads from, as /proc/PID/syscall tells it; -1: none.
int ReadsFrom(const std::string& syscall_text) {
  std::istringstream words(syscall_text);
  long number = -1;
  std::string argument;
  if (!(words >> number >> argument)) return -1;
  switch (number) {
    case SYS_read:
    case SYS_readv:
    case SYS_preadv2:
    case SYS_splice:
      return static_cast<int>(std::strtol(argument.c_str(), nullptr, 16));
    default:
      return -1;
  }
}

}  // namespace

int ParentOf(int pid) { return StatOf(pid).value_or(ProcessStat{}).parent; }

std::vector<int> ChildrenOf(int pid) {
  std::vector<int> children;
  const std::string tasks = fmt::format("/proc/{}/task", pid);
  for (const int thread : NumbersIn(tasks)) {
    std::istringstream numbers(TextOf(fmt::format("{}/{}/children", tasks, thread)));
    for (int child = 0; numbers >> child;) children.push_back(child);
  }
  return children;
}

void KillTree(int pid) {
  Stopped stopped;
  Stop(pid, ParentOf(pid), stopped);
  // Until nobody is new: whoever was starting somebody when it was stopped has done so by then.
  for (std::size_t before = 0; before != stopped.size();) {
    before = stopped.size();
    for (const int each : NumbersIn("/proc")) {
      if (stopped.contains(each)) continue;
      const std::optional<ProcessStat> is = StatOf(each);
      if (is && (is->session == pid || stopped.contains(is->parent))) {
        Stop(each, is->parent, stopped);
      }
    }
  }
  for (const auto& [number, pidfd] : stopped) {
    syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  }
}

bool WaitsToRead(int pid, const FileIdentity& file) {
  std::vector<int> processes = {pid};
  for (std::size_t i = 0; i < processes.size() && i < kMostLookedAt; ++i) {
    const std::string process = fmt::format("/proc/{}", processes[i]);
    for (const int thread : NumbersIn(process + "/task")) {
      const int fd = ReadsFrom(TextOf(fmt::format("{}/task/{}/syscall", process, thread)));
      struct stat status = {};
      if (fd >= 0 && stat(fmt::format("{}/fd/{}", process, fd).c_str(), &status) == 0 &&
          status.st_dev == file.device && status.st_ino == file.inode) {
        return true;
      }
    }
    for (const int child : ChildrenOf(processes[i])) processes.push_back(child);
  }
  return false;
}

}  // namespace brood
