// Processes: pids.max of a cgroup, and RLIMIT_NPROC of a user.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <vector>

#include "bench/limits/unit.h"
#include "spawn/cgroup_host.h"
#include "spawn/status.h"

namespace brood::limits {
namespace {

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
  absl::Status Confine(std::uint64_t maximum) override {
    const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
    if (!host.ok()) return host.status();
    std::string mount = host->Has("pids") ? host->base : "";
    for (const V1Controller& v1 : host->v1) {
      if (v1.name == "pids") mount = v1.mount;
    }
    if (mount.empty()) {
      return Error(absl::StatusCode::kUnavailable, "the pids controller is not here to be used");
    }
    BROOD_ASSIGN_OR_RETURN(cgroup_, MakeRunCgroup(mount, getppid()));
    for (const auto& [file, text] :
         {std::pair<const char*, std::string>{"pids.max", std::to_string(maximum)},
          {"cgroup.procs", "0"}}) {
      if (const int error = WriteFile(cgroup_ + "/" + file, text); error != 0) {
        return Error(absl::StatusCode::kUnavailable, "writing {}/{}: {}", cgroup_, file,
                     ErrnoText(error));
      }
    }
    return absl::OkStatus();
  }
  bool Drained() override {
    std::uint64_t left = 0;
    return (std::ifstream(cgroup_ + "/pids.current") >> left) && left <= 1;
  }

 private:
  std::string cgroup_;
};

class Nproc : public Processes {
 public:
  absl::Status Confine(std::uint64_t maximum) override {
    if (geteuid() != 0) {
      return Error(absl::StatusCode::kUnavailable,
                   "taking a user that has no processes needs root");
    }
    const pid_t parent = getppid();
    // A user that nobody is: the count is the user's, not the process's. Root is exempt from it.
    const uid_t user = 0x6b000000U + static_cast<uid_t>(getpid());
    const rlimit limit{maximum, maximum};
    if (setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0 ||
        setrlimit(RLIMIT_NPROC, &limit) != 0) {
      return ErrnoError(errno, "becoming user {} with RLIMIT_NPROC {}", user, maximum);
    }
    // Taking another user has cleared it (prctl(2)).
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return ErrnoError(errno, "tying it to its parent");
    if (getppid() != parent) _exit(0);
    return absl::OkStatus();
  }
  bool Drained() override {
    // The count falls when the last of a child is gone, a moment after it has been reaped; one
    // more fits below a limit of two only when this process is alone.
    const rlimit two{2, 2};
    std::vector<int> one;
    if (setrlimit(RLIMIT_NPROC, &two) != 0) return false;
    const int pid = ForkIdle(0);
    if (pid < 0) return false;
    one.push_back(pid);
    EndChildren(one);
    return true;
  }
};

}  // namespace

std::vector<Unit> ProcessUnits() {
  return {{"pids-max", "pids.max", "clone", "processes and threads in a cgroup", 0,
           [] { return std::make_unique<PidsMax>(); }},
          {"nproc", "RLIMIT_NPROC", "clone", "processes and threads of one user", 0,
           [] { return std::make_unique<Nproc>(); }}};
}

}  // namespace brood::limits
