// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/janitor.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <system_error>

#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/cgroup_host.h"

namespace brood::bench {
namespace {

[[noreturn]] void WaitAndClean(int life, const std::filesystem::path& scratch) {
  // In a session of its own: neither ^C nor a closed terminal is for it.
  setsid();
  signal(SIGTERM, SIG_IGN);
  char byte = 0;
  while (read(life, &byte, 1) < 0 && errno == EINTR) {
  }
  std::error_code ignored;
  std::filesystem::remove_all(scratch, ignored);
  if (const absl::StatusOr<CgroupHost> host = CgroupHost::Discover(); host.ok()) {
    ParentCgroup::ClearLeftovers(*host).status().IgnoreError();  // there is nobody left to tell
  }
  _exit(0);
}

}  // namespace

absl::StatusOr<Janitor> Janitor::Hire() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  // Not in /tmp, which a worker has of its own.
  std::string scratch = "/var/tmp/brood-bench-XXXXXX";
  if (mkdtemp(scratch.data()) == nullptr) {
    return ErrnoError(errno, "making a directory {}", scratch);
  }
  const pid_t pid = fork();
  if (pid < 0) {
    const int error = errno;
    rmdir(scratch.c_str());
    return ErrnoError(error, "forking a process that cleans up");
  }
  if (pid == 0) {
    close(ends[1]);
    WaitAndClean(ends[0], scratch);
  }
  return Janitor(scratch, pid, std::move(write_end));
}

Janitor::~Janitor() {
  if (!life_.valid()) return;  // moved from
  life_.reset();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace brood::bench
