// SPDX-License-Identifier: Apache-2.0

// Processes: pids.max of a cgroup and of one above it, RLIMIT_NPROC of a user, kernel.pid_max of a
// pid namespace, kernel.threads-max of the machine.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pool/stress/leftovers.h"
#include "pool/stress/unit.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/machine.h"

namespace brood::limits {
namespace {

// A process that only waits: task, stack, credentials, page tables of a copy of this one.
constexpr Cost kProcess{.processes = 1, .bytes = 150'000};

class Processes : public Pusher {
 public:
  std::uint64_t ThereBefore() const override { return 1; }  // the process that pushes
  int AddOne() override {
    const int pid = ForkIdle(0);
    if (pid < 0) return -pid;
    pids_.push_back(pid);
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kClone, .error = error};
  }
  void Release() override { EndChildren(pids_); }

 private:
  std::vector<int> pids_;
};

class PidsMax : public Processes {
 public:
  // With `above`, the limit is the parent's and the processes are in a child that has none.
  explicit PidsMax(bool above) : above_(above) {}

  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
    if (!host.ok()) return host.status();
    const std::string mount = host->PlaceFor("pids");
    if (mount.empty()) {
      return Error(absl::StatusCode::kUnavailable, "the pids controller cannot be used here");
    }
    BROOD_ASSIGN_OR_RETURN(cgroup_, MakeRunCgroup(mount, getppid()));
    if (wanted) BROOD_RETURN_IF_ERROR(Write(cgroup_ + "/pids.max", std::to_string(*wanted)));
    std::string own = cgroup_;
    if (above_) {
      // On v2 a child has only the controllers that its parent passes on.
      if (host->Has("pids") && mount == host->base) {
        BROOD_RETURN_IF_ERROR(Write(cgroup_ + "/cgroup.subtree_control", "+pids"));
      }
      own += "/inner";
      if (mkdir(own.c_str(), 0755) != 0) return ErrnoError(errno, "making a cgroup {}", own);
    }
    BROOD_RETURN_IF_ERROR(Write(own + "/cgroup.procs", "0"));
    return wanted.value_or(kNoMaximum);
  }
  bool Drained() override {
    const std::optional<std::uint64_t> left = Counted();
    return left && *left <= 1;
  }
  std::optional<std::uint64_t> Counted() override {
    return FirstNumberOf(cgroup_ + "/pids.current");
  }

 private:
  static absl::Status Write(const std::string& path, std::string_view text) {
    const int error = WriteFile(path, text);
    if (error == 0) return absl::OkStatus();
    return Error(absl::StatusCode::kUnavailable, "writing {}: {}", path, ErrnoText(error));
  }

  bool above_;
  std::string cgroup_;
};

class Nproc : public Processes {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    BROOD_RETURN_IF_ERROR(BecomeNobodyElse());
    rlimit limit{};
    if (getrlimit(RLIMIT_NPROC, &limit) != 0) return ErrnoError(errno, "reading RLIMIT_NPROC");
    if (!wanted) return limit.rlim_cur == RLIM_INFINITY ? kNoMaximum : limit.rlim_cur;
    limit = {*wanted, *wanted};
    if (setrlimit(RLIMIT_NPROC, &limit) != 0) {
      return Error(absl::StatusCode::kUnavailable, "setting RLIMIT_NPROC to {}: {}", *wanted,
                   ErrnoText(errno));
    }
    return *wanted;
  }
  bool Drained() override {
    // The count falls when the last of a child is gone, a moment after it has been reaped; one
    // more fits below a limit of two only when this process is alone.
    rlimit two{};
    if (getrlimit(RLIMIT_NPROC, &two) != 0) return false;
    two.rlim_cur = 2;
    if (setrlimit(RLIMIT_NPROC, &two) != 0) return false;
    const int pid = ForkIdle(0);
    if (pid < 0) return false;
    std::vector<int> one = {pid};
    EndChildren(one);
    return true;
  }
};

// From Linux 6.14 on each pid namespace has a maximum of its own, which its /proc/sys shows.
class PidMax : public Processes {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    static constexpr const char* kFile = "/proc/sys/kernel/pid_max";
    // By the release, since trying would set the machine's own: whoever is root outside may write
    // to it from every namespace.
    if (wanted && !KernelIsAtLeast(6, 14)) {
      return Error(absl::StatusCode::kUnavailable,
                   "kernel.pid_max is a limit of the whole machine before Linux 6.14");
    }
    const std::uint64_t machine = FirstNumberOf(kFile).value_or(1);
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
      return Error(absl::StatusCode::kUnavailable, "making a pid and a mount namespace: {}",
                   ErrnoText(errno));
    }
    const UniqueFd parent(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
    if (!parent.valid()) return ErrnoError(errno, "opening a pidfd of this process");
    const pid_t init = fork();
    if (init < 0) return ErrnoError(errno, "forking the init of a pid namespace");
    if (init > 0) RelayAsParent(init);
    // From here on this is the namespace's init, number 1.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // It may have died before that. Its number reads as 0 here.
    pollfd ended = {parent.get(), POLLIN, 0};
    if (poll(&ended, 1, 0) > 0) _exit(0);
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
      return Error(absl::StatusCode::kUnavailable, "mounting a /proc of its own: {}",
                   ErrnoText(errno));
    }
    if (!wanted) return machine - 1;
    // The kernel's least is 301: numbers below 300 are for its own threads (RESERVED_PIDS).
    const std::uint64_t maximum = std::max<std::uint64_t>(*wanted + 1, kLeast);
    if (const int error = WriteFile(kFile, std::to_string(maximum)); error != 0) {
      return Error(absl::StatusCode::kUnavailable, "setting kernel.pid_max of a pid namespace: {}",
                   ErrnoText(error));
    }
    return maximum - 1;  // the first number that is not given out
  }
  bool Drained() override {
    // All numbers but this process's own are free again, where /proc lists no other process.
    std::error_code error;
    std::uint64_t count = 0;
    for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end;
         it.increment(error)) {
      const std::string name = it->path().filename();
      if (name.find_first_not_of("0123456789") == std::string::npos) ++count;
    }
    return !error && count == 1;
  }

 private:
  static constexpr std::uint64_t kLeast = 301;

  // The process that came here only waits for the one that goes on.
  [[noreturn]] static void RelayAsParent(pid_t init) {
    int status = 0;
    while (waitpid(init, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(0);
  }
};

class ThreadsMax : public Processes {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    if (wanted) {
      return Error(absl::StatusCode::kUnavailable,
                   "kernel.threads-max is a limit of the whole machine only; see --host");
    }
    return FirstNumberOf("/proc/sys/kernel/threads-max").value_or(kNoMaximum);
  }
  std::uint64_t ThereBefore() const override { return MachineThreads().value_or(0); }
  bool Drained() override { return true; }  // each has been reaped
  std::optional<std::uint64_t> Counted() override { return MachineThreads(); }
};

}  // namespace

std::vector<Unit> ProcessUnits() {
  return {{.name = "pids-max",
           .limit = "pids.max",
           .call = "clone",
           .what = "processes and threads in a cgroup",
           .where = "pids.max",
           .cost = kProcess,
           .make = [] { return std::make_unique<PidsMax>(false); }},
          {.name = "pids-max-above",
           .limit = "pids.max",
           .call = "clone",
           .what = "processes and threads below a cgroup, in one that has no limit itself",
           .where = "pids.max of the parent",
           .cost = kProcess,
           .make = [] { return std::make_unique<PidsMax>(true); }},
          {.name = "nproc",
           .limit = "RLIMIT_NPROC",
           .call = "clone",
           .what = "processes and threads of one user",
           .where = "setrlimit(RLIMIT_NPROC)",
           .cost = kProcess,
           .make = [] { return std::make_unique<Nproc>(); }},
          {.name = "pid-max",
           .limit = "kernel.pid_max",
           .call = "clone",
           .what = "numbers for processes and threads in a pid namespace",
           .where = "/proc/sys/kernel/pid_max",
           .cost = kProcess,
           .make = [] { return std::make_unique<PidMax>(); }},
          {.name = "threads-max",
           .limit = "kernel.threads-max",
           .call = "clone",
           .what = "threads of the whole machine",
           .where = "/proc/sys/kernel/threads-max",
           .cost = kProcess,
           .make = [] { return std::make_unique<ThreadsMax>(); }}};
}

}  // namespace brood::limits
