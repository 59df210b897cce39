// Places in which a limit can be pushed without anybody else noticing.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "bench/limits/stress.h"
#include "bench/limits/unit.h"
#include "spawn/cgroup_host.h"
#include "spawn/cgroup_tree.h"
#include "spawn/status.h"

namespace brood::limits {
namespace {

constexpr std::string_view kPrefix = "brood-stress-";

// When a process started, in clock ticks: with its pid, a name that is not used again. Empty for
// one that is gone or only waits to be reaped.
std::string StartTime(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream words(text.substr(name_end + 1));
  std::string word;
  for (int field = 3; field <= 22 && words >> word; ++field) {
    if (field == 3 && word == "Z") return {};
  }
  return word;
}

void ClearIn(const std::string& mount, bool own, absl::Status& status) {
  std::error_code error;
  std::vector<std::string> dead;
  for (std::filesystem::directory_iterator it(mount, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const std::size_t dash = name.find('-', kPrefix.size());
    if (dash == std::string::npos) continue;
    const std::string pid = name.substr(kPrefix.size(), dash - kPrefix.size());
    const bool mine = pid == std::to_string(getpid());
    if (own ? mine : StartTime(pid) != name.substr(dash + 1)) dead.push_back(name);
  }
  for (const std::string& name : dead) {
    const UniqueFd directory(open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    // Whoever was in it ends with the process that pushed, but perhaps is still about to. On v1
    // nothing tells when a cgroup is empty but rmdir itself.
    for (;;) {
      const absl::Status removed = RemoveTree(directory.get(), name, deadline);
      if (removed.ok() || absl::IsNotFound(removed)) break;
      if (rmdir((mount + "/" + name).c_str()) == 0) break;
      if (std::chrono::steady_clock::now() > deadline) {
        status.Update(removed);
        break;
      }
      usleep(5000);
    }
  }
}

}  // namespace

int WriteFile(const std::string& path, std::string_view text) {
  return WriteFileAt(AT_FDCWD, path.c_str(), text);
}

absl::Status EnterUserNamespace() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWUSER) != 0) {
    return Error(absl::StatusCode::kUnavailable, "making a user namespace: {}", ErrnoText(errno));
  }
  for (const auto& [file, text] :
       {std::pair<const char*, std::string>{"/proc/self/setgroups", "deny"},
        {"/proc/self/gid_map", fmt::format("0 {} 1", gid)},
        {"/proc/self/uid_map", fmt::format("0 {} 1", uid)}}) {
    if (const int error = WriteFile(file, text); error != 0) {
      return ErrnoError(error, "writing {}", file);
    }
  }
  return absl::OkStatus();
}

int ForkIdle(std::uint64_t flags) {
  const pid_t parent = getpid();
  const long pid = syscall(SYS_clone, flags | SIGCHLD, 0L, 0L, 0L, 0L);
  if (pid < 0) return -errno;
  if (pid > 0) return static_cast<int>(pid);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // In a pid namespace of its own the parent's number reads as 0.
  const pid_t now = static_cast<pid_t>(syscall(SYS_getppid));
  if (now != parent && now != 0) _exit(0);
  for (;;) pause();
}

void EndChildren(std::vector<int>& pids) {
  for (const int pid : pids) kill(pid, SIGKILL);
  for (const int pid : pids) {
    while (waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) {
    }
  }
  pids.clear();
}

absl::StatusOr<std::string> MakeRunCgroup(const std::string& mount, int owner) {
  const std::string path =
      fmt::format("{}/{}{}-{}", mount, kPrefix, owner, StartTime(std::to_string(owner)));
  if (mkdir(path.c_str(), 0755) != 0) {
    return Error(absl::StatusCode::kUnavailable, "making a cgroup {}: {}", path, ErrnoText(errno));
  }
  return path;
}

namespace {

absl::Status Clear(bool own) {
  absl::Status status;
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) return host.status();
  if (!host->base.empty()) ClearIn(host->base, own, status);
  for (const V1Controller& v1 : host->v1) {
    if (v1.name == "pids") ClearIn(v1.mount, own, status);
  }
  return status;
}

}  // namespace

absl::Status ClearLeftovers() { return Clear(false); }
absl::Status RemoveOwn() { return Clear(true); }

}  // namespace brood::limits
