// SPDX-License-Identifier: Apache-2.0

#include "spawn/limits/limits.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <tuple>

#include "spawn/base/kernel.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/mountinfo.h"

namespace brood {
namespace {

// Numbers below this one are not given out again once pids have wrapped (kernel/pid.c).
constexpr std::uint64_t kReservedPids = 300;
// MAX_PID_NS_LEVEL, kernel/pid_namespace.c; user namespaces allow one more (level > 32).
constexpr std::uint64_t kPidDepth = 32;
constexpr std::uint64_t kUserDepth = 33;

// The first number in a file; none for "max", and where there is no file.
std::optional<std::uint64_t> Number(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

// The number behind `key` in a file of "key number" lines.
std::optional<std::uint64_t> Keyed(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::uint64_t number = 0;
    if (word == key && file >> number) return number;
  }
  return std::nullopt;
}

bool IsNumber(const std::string& name) {
  return !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
}

// The entries of a directory that are numbers, as of /proc and /proc/PID/fd. `error` tells why
// there are none.
std::vector<std::uint64_t> Numbers(const std::string& directory, std::error_code& error) {
  std::vector<std::uint64_t> numbers;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (IsNumber(name)) numbers.push_back(std::stoull(name));
  }
  return numbers;
}
std::vector<std::uint64_t> Numbers(const std::string& directory) {
  std::error_code ignored;
  return Numbers(directory, ignored);
}

std::string Doubled(std::optional<std::uint64_t> maximum) {
  return maximum && *maximum > 0 ? std::to_string(*maximum * 2) : "N";
}

LimitReading Sysctl(const LimitQuestion& question, const std::string& name, std::string what) {
  std::string path = "/sys/" + name;
  std::replace(path.begin(), path.end(), '.', '/');
  LimitReading reading{.name = name, .what = std::move(what), .where = "/proc" + path};
  reading.maximum = Number(question.proc + path);
  reading.raise = fmt::format("sysctl -w {}={}", name, Doubled(reading.maximum));
  return reading;
}

// All threads whose real user is `uid`.
std::uint64_t ThreadsOf(const std::string& proc, uid_t uid) {
  std::uint64_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(proc, error), end; !error && it != end;
       it.increment(error)) {
    if (!IsNumber(it->path().filename())) continue;
    const std::string status = it->path().string() + "/status";
    if (Keyed(status, "Uid:") == uid) count += Keyed(status, "Threads:").value_or(1);
  }
  return count;
}

// Whether this process is in a pid namespace that is not the machine's (PROC_PID_INIT_INO).
bool InPidNamespace(const std::string& proc) {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink(proc + "/self/ns/pid", error);
  return !error && own != "pid:[4026531836]";
}

// Numbers that are taken or not given out again, in this process's pid namespace: from 6.14 on each
// has a maximum of its own. They are given out upwards, and after the last one from kReservedPids.
std::uint64_t PidNumbers(const std::string& proc) {
  std::istringstream words(TextOf(proc + "/loadavg"));
  std::string word;
  std::uint64_t last = 0;  // the fifth, in this pid namespace
  for (int i = 0; i < 4; ++i) words >> word;
  if (words >> last && last < kReservedPids) return last + 1;
  std::uint64_t count = kReservedPids;
  for (const std::uint64_t pid : Numbers(proc)) {
    for (const std::uint64_t thread : Numbers(fmt::format("{}/{}/task", proc, pid))) {
      if (thread >= kReservedPids) ++count;
    }
  }
  return count;
}

// Root of the machine is never counted against it, nor who may raise it (kernel/fork.c).
bool ExemptFromNproc(const std::string& proc) {
  if (getuid() == 0 && TextOf(proc + "/self/uid_map").find("4294967295") != std::string::npos) {
    return true;
  }
  std::ifstream status(proc + "/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t mask = 0;
    if (word != "CapEff:" || !(status >> std::hex >> mask)) continue;
    // Capabilities of a user namespace do not count: capable() asks the machine's own.
    const bool initial = TextOf(proc + "/self/uid_map").find("4294967295") != std::string::npos;
    return initial && (mask & (1ULL << 21 | 1ULL << 24)) != 0;  // SYS_ADMIN, SYS_RESOURCE
  }
  return false;
}

LimitReading Nproc(const std::string& proc) {
  LimitReading reading{.name = "RLIMIT_NPROC",
                       .what = "processes and threads of one user",
                       .where = "setrlimit(RLIMIT_NPROC)",
                       .raise = "ulimit -u unlimited, or LimitNPROC= in the unit"};
  rlimit limit{};
  if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    reading.maximum = limit.rlim_cur;
  }
  reading.used = ThreadsOf(proc, getuid());
  return reading;
}

void AddPidsUpwards(const std::string& mount, std::string path, std::vector<LimitReading>& limits) {
  for (; !path.empty() && path != "/"; path.resize(path.rfind('/'))) {
    const std::string directory = mount + path;
    const std::optional<std::uint64_t> maximum = Number(directory + "/pids.max");
    if (!maximum) continue;
    limits.push_back({.name = "pids.max",
                      .what = "processes and threads in a cgroup and those below it",
                      .where = directory + "/pids.max",
                      .maximum = maximum,
                      .used = Number(directory + "/pids.current"),
                      .raise = fmt::format("echo max > {}/pids.max", directory)});
  }
}

struct Kind {
  std::uint64_t flag;
  std::string_view name;
  std::string_view what;
};
constexpr Kind kKinds[] = {
    {kernel::kCloneNewUser, "user", "user"},       {kernel::kCloneNewNs, "mnt", "mount"},
    {kernel::kCloneNewPid, "pid", "pid"},          {kernel::kCloneNewNet, "net", "network"},
    {kernel::kCloneNewIpc, "ipc", "ipc"},          {kernel::kCloneNewUts, "uts", "uts"},
    {kernel::kCloneNewCgroup, "cgroup", "cgroup"}, {kernel::kCloneNewTime, "time", "time"},
};

// How deep the pid namespace is that this process is in, as far as this /proc sees.
std::uint64_t PidDepth(const std::string& proc) {
  std::ifstream status(proc + "/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream numbers(line.substr(6));
    const auto all = std::distance(std::istream_iterator<std::uint64_t>(numbers), {});
    return all > 0 ? static_cast<std::uint64_t>(all) - 1 : 0;  // the outermost is no depth
  }
  return 0;
}

// Whether one more namespace of this kind is refused with ENOSPC, by making it in a child.
bool Refused(std::uint64_t flag) {
  // fork(2) without an exit signal, which a host program's SIGCHLD handler would see. The child
  // calls the kernel and nothing else, so threads that held locks do not matter.
  const long pid = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L);
  if (pid < 0) return false;
  if (pid == 0) {
    int error = syscall(SYS_unshare, flag) == 0 ? 0 : errno;
    if (error == EPERM) {
      error = syscall(SYS_unshare, kernel::kCloneNewUser | flag) == 0 ? 0 : errno;
    }
    syscall(SYS_exit_group, error == ENOSPC ? 1 : 0);
  }
  int status = 0;
  while (waitpid(static_cast<pid_t>(pid), &status, __WALL) < 0) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

// When the caller has told how many there are and how deep, a single kind that was refused below
// its own maximum can only have been refused by a user namespace outside.
void ConcludeOuterLimit(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  if (!question.made || !question.depth) return;
  const auto is_full = [](const LimitReading& limit) { return limit.Full(); };
  if (std::any_of(limits.begin(), limits.end(), is_full)) return;
  LimitReading* only = nullptr;
  for (LimitReading& limit : limits) {
    if (!limit.name.starts_with("user.max_")) continue;
    if (only != nullptr) return;
    only = &limit;
  }
  if (only == nullptr) return;
  only->refused = true;
  only->where = "a user namespace outside this one";
}

void AddNamespaces(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  const bool may_try = !question.made && !question.depth && question.proc == "/proc";
  for (const Kind& kind : kKinds) {
    if ((question.namespaces & kind.flag) == 0) continue;
    LimitReading reading =
        Sysctl(question, fmt::format("user.max_{}_namespaces", kind.name),
               fmt::format("{} namespaces of one user, here and in each user namespace outside",
                           kind.what));
    reading.used = question.made;
    // None can be made where none may be: that decides without a count.
    if (reading.maximum == 0) reading.used = 0;
    if (!reading.Full() && may_try) reading.refused = Refused(kind.flag);
    limits.push_back(std::move(reading));
  }
  if ((question.namespaces & kernel::kCloneNewPid) != 0) {
    limits.push_back({.name = "pid namespace depth",
                      .what = "pid namespaces inside each other",
                      .where = "built into the kernel",
                      .maximum = kPidDepth,
                      .used = question.depth ? *question.depth : PidDepth(question.proc)});
  }
  if ((question.namespaces & kernel::kCloneNewUser) != 0) {
    limits.push_back({.name = "user namespace depth",
                      .what = "user namespaces inside each other",
                      .where = "built into the kernel",
                      .maximum = kUserDepth,
                      .used = question.depth});
  }
  ConcludeOuterLimit(question, limits);
}

void AddProcesses(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  if (!ExemptFromNproc(question.proc)) limits.push_back(Nproc(question.proc));
  for (LimitReading& pids : PidsLimits(question.proc)) limits.push_back(std::move(pids));
  const std::optional<std::uint64_t> threads = MachineThreads(question.proc);
  LimitReading most = Sysctl(question, "kernel.threads-max", "threads of the whole machine");
  most.used = threads;
  limits.push_back(std::move(most));
  LimitReading numbers =
      Sysctl(question, "kernel.pid_max", "numbers for processes, threads, groups and sessions");
  // /proc/loadavg counts the whole machine's threads, whoever reads it.
  if (InPidNamespace(question.proc)) {
    numbers.used = PidNumbers(question.proc);
  } else if (threads) {
    numbers.used = *threads + kReservedPids;
  }
  limits.push_back(std::move(numbers));
}

void AddCgroups(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  std::uint64_t depth = 1;
  for (std::filesystem::path at = question.cgroup; !at.empty() && at != at.parent_path();
       at = at.parent_path(), ++depth) {
    const std::string directory = at;
    const std::optional<std::uint64_t> there = Keyed(directory + "/cgroup.stat", "nr_descendants");
    if (!there) break;
    for (const bool deep : {false, true}) {
      const std::string name = deep ? "cgroup.max.depth" : "cgroup.max.descendants";
      const std::optional<std::uint64_t> maximum = Number(directory + "/" + name);
      if (!maximum) continue;
      limits.push_back({.name = name,
                        .what = deep ? "cgroups inside each other" : "cgroups below a cgroup",
                        .where = directory + "/" + name,
                        .maximum = maximum,
                        // One that fits exactly is not too many: full is one less.
                        .used = deep ? depth - 1 : *there,
                        .raise = fmt::format("echo max > {}/{}", directory, name)});
    }
  }
}

LimitReading Nofile(const LimitQuestion& question) {
  LimitReading reading{.name = "RLIMIT_NOFILE",
                       .what = "descriptors of a process",
                       .where = "setrlimit(RLIMIT_NOFILE)",
                       .raise = "ulimit -n N, up to ulimit -Hn; LimitNOFILE= in the unit"};
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    reading.maximum = question.rlimit.value_or(limit.rlim_cur);
  }
  std::error_code error;
  std::vector<std::uint64_t> open = Numbers(question.proc + "/self/fd", error);
  // At the limit there is no descriptor to look with, which says it all.
  if (error == std::errc::too_many_files_open) reading.refused = true;
  if (open.empty() || !reading.maximum) return reading;
  // The limit is on numbers: one above it takes no room. Nor does the one that was looked with.
  std::erase_if(open, [&](std::uint64_t fd) {
    return fd >= *reading.maximum || fcntl(static_cast<int>(fd), F_GETFD) < 0;
  });
  reading.used = open.size();
  return reading;
}

void AddKeys(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  // "    0:    15 14/14 12/1000000 268/25000000"
  std::ifstream file(question.proc + "/key-users");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string uid;
    std::string skipped;
    std::string keys;
    std::string bytes;
    if (!(words >> uid >> skipped >> skipped >> keys >> bytes)) continue;
    if (uid != fmt::format("{}:", geteuid())) continue;
    for (const auto& [text, name, what] :
         {std::tuple{keys, "keys", "keys of one user"},
          std::tuple{bytes, "bytes", "bytes in keys of one user"}}) {
      LimitReading reading = Sysctl(
          question, fmt::format("kernel.keys.{}max{}", geteuid() == 0 ? "root_" : "", name), what);
      std::uint64_t used = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), used);
      if (error == std::errc{}) reading.used = used;
      limits.push_back(std::move(reading));
    }
  }
}

void AddRing(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading =
      Sysctl(question, "kernel.io_uring_disabled", "who may use io_uring (Linux 6.6)");
  if (!reading.maximum || *reading.maximum == 0) return;  // a filter or a module has refused it
  reading.used = reading.maximum;
  reading.raise = "sysctl -w kernel.io_uring_disabled=0";
  limits.push_back(std::move(reading));
}

void AddMemory(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading{.name = "memory",
                       .what = "KiB of memory that can be had",
                       .where = "the machine's size",
                       .raise = "end something, or add memory or swap"};
  reading.maximum = Keyed(question.proc + "/meminfo", "MemTotal:");
  const std::optional<std::uint64_t> left = Keyed(question.proc + "/meminfo", "MemAvailable:");
  if (reading.maximum && left) reading.used = *reading.maximum - std::min(*left, *reading.maximum);
  limits.push_back(std::move(reading));
}

// What this process may map or pin, beside the machine's memory.
void AddRlimit(const LimitQuestion& question, int resource, const char* name, const char* what,
               std::initializer_list<const char*> counted, std::vector<LimitReading>& limits) {
  LimitReading reading{.name = name,
                       .what = what,
                       .where = fmt::format("setrlimit({})", name),
                       .raise = fmt::format("prlimit --pid PID, or {}= in the unit",
                                            resource == RLIMIT_AS ? "LimitAS" : "LimitMEMLOCK"),
                       .wanted = question.wanted};
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  if (!question.rlimit && limit.rlim_cur == RLIM_INFINITY) return;
  reading.maximum = question.rlimit.value_or(limit.rlim_cur);
  std::uint64_t kilobytes = 0;
  for (const char* const key : counted) {
    kilobytes += Keyed(question.proc + "/self/status", key).value_or(0);
  }
  reading.used = kilobytes * 1024;
  limits.push_back(std::move(reading));
}

void AddMappings(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading = Sysctl(question, "vm.max_map_count", "memory mappings of a process");
  const std::string maps = TextOf(question.proc + "/self/maps");
  reading.used = static_cast<std::uint64_t>(std::count(maps.begin(), maps.end(), '\n'));
  limits.push_back(std::move(reading));
}

// How many mounts lie under the root's, one below the other, as statmount(2) tells to whoever owns
// the mount namespace (Linux 6.8): the initial file system, and nullfs since 7.0. None: not told.
std::optional<std::uint64_t> MountsUnderRoot() {
  constexpr long kStatmount = 457;
  constexpr unsigned kUniqueMountId = 0x4000;  // STATX_MNT_ID_UNIQUE
  constexpr std::uint64_t kBasic = 2;          // STATMOUNT_MNT_BASIC
  struct Question {
    std::uint32_t size = 24;
    std::uint32_t spare = 0;
    std::uint64_t mount = 0;
    std::uint64_t wanted = kBasic;
  };
  struct Answer {
    std::uint32_t size, options;
    std::uint64_t mask;
    std::uint32_t device[2];
    std::uint64_t magic;
    std::uint32_t flags, type;
    std::uint64_t mount, parent;
    std::uint64_t rest[64];
  };
  struct statx root = {};
  if (statx(AT_FDCWD, "/", 0, kUniqueMountId, &root) != 0 ||
      (root.stx_mask & kUniqueMountId) == 0) {
    return std::nullopt;
  }
  Question question;
  question.mount = root.stx_mnt_id;
  for (std::uint64_t under = 0; under < 16; ++under) {
    Answer answer{};
    if (syscall(kStatmount, &question, &answer, sizeof(answer), 0) != 0) return std::nullopt;
    if (answer.parent == answer.mount) return under;
    question.mount = answer.parent;
  }
  return std::nullopt;
}

// Those of this process's mount namespace. What lies under its root is counted by the kernel but
// not listed; that there is something, the root's parent tells.
std::uint64_t Mounts(const std::string& proc) {
  const std::vector<MountLine> mounts = ParseMountinfo(TextOf(proc + "/self/mountinfo"));
  const bool root_is_covering = std::any_of(
      mounts.begin(), mounts.end(),
      [](const MountLine& each) { return each.point == "/" && each.id != each.parent; });
  const std::uint64_t count = mounts.size();
  if (!root_is_covering) return count;
  return count + (proc == "/proc" ? MountsUnderRoot() : std::nullopt).value_or(1);
}

void AddMounts(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading = Sysctl(question, "fs.mount-max", "mounts of one mount namespace");
  reading.used = Mounts(question.proc);
  limits.push_back(std::move(reading));
}

void AddFiles(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  if (question.error == EMFILE) return limits.push_back(Nofile(question));
  LimitReading reading = Sysctl(question, "fs.file-max", "open files of the whole machine");
  reading.used = Number(question.proc + "/sys/fs/file-nr");
  limits.push_back(std::move(reading));
}

// What the kernel says where a filter was compiled and found no room, and it may not be interpreted
// (CONFIG_BPF_JIT_ALWAYS_ON); it does not say how much is taken. Of the machine's own network
// namespace, so there is no file for it elsewhere.
void AddJit(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  LimitReading reading =
      Sysctl(question, "net.core.bpf_jit_limit", "bytes of compiled filters of the whole machine");
  reading.refused = true;  // nothing else has this errno
  limits.push_back(std::move(reading));
}

void Add(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  const int error = question.error;
  if (error == EMFILE && question.call == LimitedCall::kInotifyInit) {
    LimitReading instances =
        Sysctl(question, "user.max_inotify_instances", "inotify instances of a user");
    instances.used = question.made;
    LimitReading files = Nofile(question);
    // As with namespaces: the caller knows the count, and nothing in here is full.
    if (question.made && !instances.Full() && files.used && !files.Full()) {
      instances.refused = true;
      instances.where = "a user namespace outside this one";
    }
    limits.push_back(std::move(instances));
    limits.push_back(std::move(files));
    return;
  }
  if (error == EMFILE || error == ENFILE) return AddFiles(question, limits);
  if (error == ENOMEM) {
    if (question.call == LimitedCall::kMap) {
      AddRlimit(question, RLIMIT_AS, "RLIMIT_AS", "bytes of address space of a process",
                {"VmSize:"}, limits);
      AddMappings(question, limits);
    }
    if (question.call == LimitedCall::kRing) {
      AddRlimit(question, RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", "bytes of pinned memory of a user",
                {"VmPin:", "VmLck:"}, limits);
    }
    return AddMemory(question, limits);
  }
  switch (question.call) {
    case LimitedCall::kClone:
      if (error == EAGAIN) return AddProcesses(question, limits);
      [[fallthrough]];
    case LimitedCall::kUnshare:
      // EUSERS is what kernels before 4.9 said, and what newer ones say of nesting in places.
      if (error == ENOSPC || error == EUSERS) AddNamespaces(question, limits);
      return;
    case LimitedCall::kMount:
      if (error == ENOSPC) AddMounts(question, limits);
      return;
    case LimitedCall::kMakeCgroup:
      if (error == EAGAIN) AddCgroups(question, limits);
      return;
    case LimitedCall::kInotifyWatch:
      if (error == ENOSPC) {
        LimitReading watches =
            Sysctl(question, "user.max_inotify_watches", "inotify watches of a user");
        watches.used = question.made;
        limits.push_back(std::move(watches));
      }
      return;
    case LimitedCall::kAddKey:
      if (error == EDQUOT) AddKeys(question, limits);
      return;
    case LimitedCall::kRing:
      if (error == EPERM) AddRing(question, limits);
      return;
    case LimitedCall::kSeccomp:
      if (error == kEnotsupp) AddJit(question, limits);
      return;
    case LimitedCall::kOpen:
    case LimitedCall::kInotifyInit:
    case LimitedCall::kMap:
      return;
  }
}

int Likelihood(const LimitReading& limit) {
  if (limit.Full()) return 0;
  return limit.maximum && !limit.used ? 1 : 2;
}

}  // namespace

// From "0.1 0.2 0.3 RUNNING/ALL LAST".
std::optional<std::uint64_t> MachineThreads(const std::string& proc) {
  const std::string text = TextOf(proc + "/loadavg");
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return std::nullopt;
  std::uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data() + slash + 1, text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

std::uint64_t MeminfoBytes(std::string_view key) {
  return Keyed("/proc/meminfo", key).value_or(0) * 1024;
}

std::vector<LimitReading> PidsLimits(const std::string& proc) {
  const std::string own = TextOf(proc + "/self/cgroup");
  const CgroupMounts mounts = ParseCgroupMounts(TextOf(proc + "/self/mountinfo"), own);
  std::vector<LimitReading> limits;
  std::istringstream lines(own);
  for (std::string line; std::getline(lines, line);) {
    // "0::/path" of v2, "8:pids:/path" of v1
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers == ",,") {
      if (!mounts.v2.empty() && !mounts.v2.front().own.empty()) {
        AddPidsUpwards(mounts.v2.front().point,
                       mounts.v2.front().own.substr(mounts.v2.front().point.size()), limits);
      }
    } else if (controllers.find(",pids,") != std::string::npos) {
      for (const V1Controller& v1 : mounts.v1) {
        if (v1.name == "pids") AddPidsUpwards(v1.mount, line.substr(second + 1), limits);
      }
    }
  }
  return limits;
}

std::vector<LimitReading> LimitsBehind(const LimitQuestion& question) {
  std::vector<LimitReading> limits;
  Add(question, limits);
  std::stable_sort(limits.begin(), limits.end(), [](const auto& left, const auto& right) {
    return Likelihood(left) < Likelihood(right);
  });
  return limits;
}

std::string LimitSentence(const std::vector<LimitReading>& limits) {
  if (limits.empty()) return {};
  const LimitReading& first = limits.front();
  const bool sure = first.Full() || limits.size() == 1;
  if (!sure) {
    std::string text = "one of these is used up: ";
    for (const LimitReading& limit : limits) {
      if (&limit != &first) text += "; ";
      text += limit.name;
      if (limit.maximum) text += fmt::format(" ({})", *limit.maximum);
    }
    return text;
  }
  std::string text = first.name + " is used up";
  if (first.maximum && first.used) {
    text += fmt::format(" ({} of {}, {})", *first.used, *first.maximum, first.where);
  } else if (first.maximum && first.refused && first.name.starts_with("user.max_")) {
    text += fmt::format(" (maximum {} here, and perhaps less in a user namespace outside)",
                        *first.maximum);
  } else if (first.maximum) {
    text += fmt::format(" (maximum {})", *first.maximum);
  }
  if (!first.raise.empty()) text += ": " + first.raise;
  return text;
}

std::string FullLimit(const LimitQuestion& question) {
  const std::vector<LimitReading> limits = LimitsBehind(question);
  return !limits.empty() && limits.front().Full() ? LimitSentence(limits) : std::string();
}

}  // namespace brood
