// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/floors.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "bench/harness/lab.h"
#include "bench/measures/bare_clone.h"
#include "bench/measures/exec_arguments.h"
#include "bench/measures/measures.h"
#include "pool/burst/floor.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/launch/reap.h"

namespace brood::bench {
namespace {

constexpr char kCalls[] = "floor/getppid";
constexpr char kExecFloor[] = "floor/clone3-vfork/exec";

absl::Status ReapChild(std::string_view what, pid_t pid) {
  int wait_status = 0;
  while (waitpid(pid, &wait_status, __WALL) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "waiting for {}", what);
  }
  return CheckExit(what, wait_status);
}

// A child that cannot exec exits with 127, which CheckExit tells. Null: it only exits.
absl::Status ForkOnce(const ExecArguments* run) {
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "fork");
  if (pid == 0) {
    if (run == nullptr) _exit(0);
    execve(run->path(), run->argv(), run->envp());
    _exit(127);
  }
  return ReapChild("the payload after fork", pid);
}

absl::Status VforkOnce(const ExecArguments* run) {
  const pid_t pid = vfork();
  if (pid < 0) return ErrnoError(errno, "vfork");
  if (pid == 0) {
    if (run == nullptr) _exit(0);
    execve(run->path(), run->argv(), run->envp());
    _exit(127);
  }
  return ReapChild("the payload after vfork", pid);
}

absl::Status PosixSpawnOnce(const ExecArguments* run) {
  pid_t pid = 0;
  const int error = posix_spawn(&pid, run->path(), nullptr, nullptr, run->argv(), run->envp());
  if (error != 0) return ErrnoError(error, "posix_spawn of {}", run->path());
  return ReapChild("the payload after posix_spawn", pid);
}

// What is measured over and over: made where it runs, since a lab is another process.
absl::StatusOr<Once> Prepare(Start how, const Command* command) {
  std::shared_ptr<ExecArguments> run;
  if (command != nullptr) run = std::make_shared<ExecArguments>(*command);
  switch (how) {
    case Start::kFork:
      return [run] { return ForkOnce(run.get()); };
    case Start::kVfork:
      return [run] { return VforkOnce(run.get()); };
    case Start::kPosixSpawn:
      return [run] { return PosixSpawnOnce(run.get()); };
    case Start::kClone3Vfork:
      if (command != nullptr) {
        BROOD_ASSIGN_OR_RETURN(FloorSpawner made, FloorSpawner::Create(*command));
        auto floor = std::make_shared<FloorSpawner>(std::move(made));
        return [floor] { return FloorOnce(*floor); };
      }
      [[fallthrough]];
    case Start::kClone3: {
      BROOD_ASSIGN_OR_RETURN(BareClone made, BareClone::Create());
      auto clone = std::make_shared<BareClone>(std::move(made));
      if (run) {
        clone->child().path = run->path();
        clone->child().argv = run->argv();
        clone->child().envp = run->envp();
      }
      const std::uint64_t flags = how == Start::kClone3 ? 0 : kLikeVfork;
      return [run, clone, flags] { return clone->RunOnce(flags); };
    }
  }
  return Error(absl::StatusCode::kInternal, "an unknown way of starting a process");
}

Row StartRow(std::string name, Start how, const Command* command,
             std::chrono::milliseconds quiet = {}) {
  Row row;
  row.name = std::move(name);
  row.run = [how, command, quiet](benchmark::State& state, Samples& samples) {
    const absl::StatusOr<Once> once = Prepare(how, command);
    if (!once.ok()) return Fail(state, once.status());
    samples.MeasureAfter(state, quiet, *once);
  };
  return row;
}

// The kernel's own prices, of which all the others are made. So many of them an iteration that the
// clock does not count.
Row CallRow(std::string name, int calls, std::function<absl::StatusOr<Once>()> prepare) {
  Row row;
  row.name = std::move(name);
  row.brief = true;
  row.run = [calls, prepare = std::move(prepare)](benchmark::State& state, Samples& samples) {
    const absl::StatusOr<Once> once = prepare();
    if (!once.ok()) return Fail(state, once.status());
    samples.MeasurePart(state, [&]() -> absl::StatusOr<double> {
      const std::int64_t start = NowNs();
      for (int i = 0; i < calls; ++i) BROOD_RETURN_IF_ERROR((*once)());
      return static_cast<double>(NowNs() - start) / 1e3 / calls;
    });
  };
  return row;
}

absl::StatusOr<Once> PrepareGetppid() {
  return [] { return syscall(SYS_getppid) >= 0 ? absl::OkStatus() : ErrnoError(errno, "getppid"); };
}

// Two processes that hand one byte back and forth: two switches a round trip.
absl::StatusOr<Once> PreparePipe() {
  struct Echo {
    UniqueFd to, from;
    pid_t pid = -1;
    ~Echo() {
      to.reset();
      if (pid > 0) KillAndReap(pid);
    }
  };
  std::array<int, 2> there{};
  std::array<int, 2> back{};
  if (pipe2(there.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  UniqueFd there_read(there[0]);
  auto echo = std::make_shared<Echo>();
  echo->to.reset(there[1]);
  if (pipe2(back.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  echo->from.reset(back[0]);
  UniqueFd back_write(back[1]);
  echo->pid = fork();
  if (echo->pid < 0) return ErrnoError(errno, "forking an echo");
  if (echo->pid == 0) {
    close(there[1]);
    for (char byte = 0; read(there[0], &byte, 1) == 1;) {
      if (write(back[1], &byte, 1) != 1) break;
    }
    _exit(0);
  }
  return [echo] {
    char byte = 'x';
    if (write(echo->to.get(), &byte, 1) != 1 || read(echo->from.get(), &byte, 1) != 1) {
      return ErrnoError(errno, "a pipe round trip");
    }
    return absl::OkStatus();
  };
}

// The first write to a page of anonymous memory.
absl::StatusOr<Once> PreparePageFault() {
  constexpr std::size_t kBytes = std::size_t{4} << 20;
  void* const memory =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoError(errno, "mapping memory");
  const std::shared_ptr<void> owner(memory, [](void* each) { munmap(each, kBytes); });
  // A huge page would be one fault for all.
  madvise(memory, kBytes, MADV_NOHUGEPAGE);
  const auto at = std::make_shared<std::size_t>(0);
  return [owner, at] {
    if (*at == kBytes) {
      madvise(owner.get(), kBytes, MADV_DONTNEED);
      *at = 0;
    }
    static_cast<volatile char*>(owner.get())[*at] = 1;
    *at += 4096;
    return absl::OkStatus();
  };
}

struct StartWay {
  const char* name;
  Start how;
  bool can_only_exit = true;
};
constexpr std::array kStartWays = {StartWay{"fork", Start::kFork}, StartWay{"vfork", Start::kVfork},
                                   StartWay{"posix_spawn", Start::kPosixSpawn, false},
                                   StartWay{"clone3", Start::kClone3},
                                   StartWay{"clone3-vfork", Start::kClone3Vfork}};

// Memory that this process has, touched page by page as a program's own is.
absl::Status Occupy(std::size_t mib) {
  const std::size_t bytes = mib << 20;
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoError(errno, "mapping {} MiB", mib);
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) {  // Linux 5.14
    for (std::size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(memory)[at] = 1;
  }
  return absl::OkStatus();
}

absl::Status OpenMany(int count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  for (int i = 0; i < count; ++i) {
    if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) {
      return ErrnoError(errno, "opening descriptor {} of {} (RLIMIT_NOFILE {})", i, count,
                        limit.rlim_max);
    }
  }
  return absl::OkStatus();
}

// Spawning from a process that is larger than this one.
Row SweptRow(const StartWay& way, const Command& command, const char* parameter, double value,
             const std::string& spelled, Lab::SetUp set_up) {
  // Prepared at the first measurement, in the lab.
  const auto once = std::make_shared<Once>();
  Row row = LabRow(fmt::format("floor/{}/exec/{}", way.name, spelled), std::move(set_up),
                   [once, how = way.how, &command](int warm_ups, int iterations,
                                                   Series& series) -> absl::Status {
                     if (!*once) {
                       BROOD_ASSIGN_OR_RETURN(*once, Prepare(how, &command));
                     }
                     return MeasureEach(warm_ups, iterations, *once, series);
                   });
  row.floor = kExecFloor;
  row.parameters = {{parameter, value}};
  row.iterations = 20;
  return row;
}

}  // namespace

absl::Status FloorOnce(FloorSpawner& floor) {
  BROOD_ASSIGN_OR_RETURN(const UniqueFd pidfd, floor.Spawn());
  BROOD_ASSIGN_OR_RETURN(const Exit exit, Reap(pidfd.get()));
  if (exit.code == CLD_EXITED && exit.status == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "the floor's payload {} {}",
               exit.code == CLD_EXITED ? "exited with status" : "was ended by signal", exit.status);
}

Row ExecRow(std::string name, Start how, const Command& command, std::chrono::milliseconds quiet) {
  return StartRow(std::move(name), how, &command, quiet);
}

std::vector<Row> FloorRows(const Setup& setup) {
  std::vector<Row> rows;
  rows.push_back(CallRow(kCalls, 1000, PrepareGetppid));
  rows.push_back(CallRow("floor/pipe", 50, PreparePipe));
  rows.push_back(CallRow("floor/page_fault", 256, PreparePageFault));
  for (const StartWay& way : kStartWays) {
    const std::string name = std::string("floor/") + way.name;
    if (way.can_only_exit) rows.push_back(StartRow(name + "/exit", way.how, nullptr));
    rows.push_back(StartRow(name + "/exec", way.how, &setup.payload));
    rows.push_back(StartRow(name + "/exec-dynamic", way.how, &setup.dynamic_payload));
  }
  for (Row& row : rows) {
    if (row.name != kExecFloor && row.name.find("/ex") != std::string::npos) row.floor = kExecFloor;
  }
  for (const StartWay& way : kStartWays) {
    for (const std::size_t mib : {1, 16, 128, 1024}) {
      rows.push_back(SweptRow(way, setup.payload, "parent_mib", static_cast<double>(mib),
                              fmt::format("parent={}MiB", mib), [mib] { return Occupy(mib); }));
    }
  }
  for (const StartWay& way : kStartWays) {
    for (const int fds : {16, 1000, 10000}) {
      rows.push_back(SweptRow(way, setup.payload, "fds", fds, fmt::format("fds={}", fds),
                              [fds] { return OpenMany(fds); }));
    }
  }
  return rows;
}

}  // namespace brood::bench
