#include "bench/strategies.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <memory>
#include <utility>

#include "bench/bare_clone.h"
#include "bench/namespaces.h"
#include "pool/pool.h"
#include "spawn/floor.h"
#include "spawn/reap.h"
#include "spawn/status.h"

namespace brood::bench {
namespace {

// argv and envp as exec takes them. The command must outlive it.
class ExecArguments {
 public:
  explicit ExecArguments(const Command& command) {
    for (const std::string& word : command.argv) argv_.push_back(const_cast<char*>(word.c_str()));
    for (const std::string& word : command.env) envp_.push_back(const_cast<char*>(word.c_str()));
    argv_.push_back(nullptr);
    envp_.push_back(nullptr);
  }
  const char* path() const { return argv_[0]; }
  char* const* argv() const { return argv_.data(); }
  char* const* envp() const { return envp_.data(); }

 private:
  std::vector<char*> argv_;
  std::vector<char*> envp_;
};

absl::Status ReapChild(std::string_view what, pid_t pid) {
  int wait_status = 0;
  while (waitpid(pid, &wait_status, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "waiting for {}", what);
  }
  return CheckExit(what, wait_status);
}

// A child that cannot exec exits with 127, which CheckExit tells.
absl::Status ForkOnce(const ExecArguments& run) {
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "fork");
  if (pid == 0) {
    execve(run.path(), run.argv(), run.envp());
    _exit(127);
  }
  return ReapChild("the payload after fork", pid);
}

absl::Status VforkOnce(const ExecArguments& run) {
  const pid_t pid = vfork();
  if (pid < 0) return ErrnoError(errno, "vfork");
  if (pid == 0) {
    execve(run.path(), run.argv(), run.envp());
    _exit(127);
  }
  return ReapChild("the payload after vfork", pid);
}

absl::Status PosixSpawnOnce(const ExecArguments& run) {
  pid_t pid = 0;
  const int error = posix_spawn(&pid, run.path(), nullptr, nullptr, run.argv(), run.envp());
  if (error != 0) return ErrnoError(error, "posix_spawn of {}", run.path());
  return ReapChild("the payload after posix_spawn", pid);
}

Row LibcRow(std::string name, const Command& command,
            absl::Status (*once)(const ExecArguments& run)) {
  Row row;
  row.name = std::move(name);
  row.run = [&command, once](benchmark::State& state, Latencies& latencies) {
    const ExecArguments run(command);
    latencies.Measure(state, [&] { return once(run); });
  };
  return row;
}

absl::Status FloorOnce(FloorSpawner& floor) {
  BROOD_ASSIGN_OR_RETURN(const UniqueFd pidfd, floor.Spawn());
  BROOD_ASSIGN_OR_RETURN(const Exit exit, Reap(pidfd.get()));
  if (exit.code == CLD_EXITED && exit.status == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "the floor's payload {} {}",
               exit.code == CLD_EXITED ? "exited with status" : "was ended by signal", exit.status);
}

Row FloorRow(const Command& command) {
  Row row;
  row.name = kSpawnFloor;
  row.run = [&command](benchmark::State& state, Latencies& latencies) {
    absl::StatusOr<FloorSpawner> floor = FloorSpawner::Create(command);
    if (!floor.ok()) return Fail(state, floor.status());
    latencies.Measure(state, [&] { return FloorOnce(*floor); });
  };
  return row;
}

// All eight namespaces and not one thing in them: no mounts, no id maps, no lo, no cgroup, no
// filter.
Row NamespacesRow(const Command& command) {
  Row row;
  row.name = kSpawnNamespaces;
  row.leaves_debt = true;
  row.run = [&command](benchmark::State& state, Latencies& latencies) {
    absl::StatusOr<BareClone> clone = BareClone::Create();
    if (!clone.ok()) return Fail(state, clone.status());
    const ExecArguments run(command);
    clone->child().unshare_flags = kAllByUnshare;
    clone->child().path = run.path();
    clone->child().argv = run.argv();
    clone->child().envp = run.envp();
    latencies.Measure(state, [&] { return clone->RunOnce(kLikeVfork | kAllByClone); });
  };
  return row;
}

// One isolated run through the pool. One that took another path than `path` is an error: it would
// be that path's figure under this one's name.
absl::StatusOr<Outcome> PoolOnce(Pool& pool, const Command& command, SpawnPath path) {
  Request request;
  request.command = command;
  request.path = path;
  BROOD_ASSIGN_OR_RETURN(Outcome outcome, pool.Run(std::move(request)));
  if (outcome.spawn_path != path) {
    return Error(absl::StatusCode::kInternal, "wanted a {} worker, had a {} one",
                 SpawnPathName(path), SpawnPathName(outcome.spawn_path));
  }
  if (outcome.ok()) return outcome;
  if (!outcome.message.empty()) {
    return Error(absl::StatusCode::kFailedPrecondition, "{}", outcome.message);
  }
  return Error(absl::StatusCode::kFailedPrecondition, "the payload ended: {}, {} {}",
               EndName(outcome.end), outcome.end == End::kExited ? "status" : "signal",
               outcome.end == End::kExited ? outcome.exit_code : outcome.signal);
}

// Has all workers of a repetition parked before it starts, and none made while it runs: that work
// would be measured, since it takes processors from what is.
absl::Status ParkAll(Pool& pool, std::uint32_t count) {
  BROOD_RETURN_IF_ERROR(pool.AwaitParked("", count, std::chrono::seconds(30)));
  pool.SetParked("", 0);
  pool.Stats();  // answered in the pool's thread, after it has seen the line above
  return absl::OkStatus();
}

Row PoolRow(std::string name, const Command& command, SpawnPath path) {
  Row row;
  row.name = std::move(name);
  row.leaves_debt = true;
  row.run = [&command, path](benchmark::State& state, Latencies& latencies) {
    const auto count = static_cast<std::uint32_t>(state.max_iterations + Latencies::kWarmUps);
    PoolOptions options;
    TemplateOptions& tmpl = options.templates.emplace_back();
    tmpl.name = "bench";
    tmpl.parked = path == SpawnPath::kParked ? count : 0;
    // A pool for each repetition: its threads and zygotes are gone when other rows run.
    absl::StatusOr<std::unique_ptr<Pool>> pool = Pool::Create(std::move(options));
    if (!pool.ok()) return Fail(state, pool.status());
    if (path == SpawnPath::kParked) {
      if (const absl::Status parked = ParkAll(**pool, count); !parked.ok()) {
        return Fail(state, parked);
      }
    }
    std::string label;
    latencies.Measure(state, [&]() -> absl::Status {
      BROOD_ASSIGN_OR_RETURN(const Outcome outcome, PoolOnce(**pool, command, path));
      if (label.empty() && !outcome.fallbacks.empty()) label = FallbackText(outcome.fallbacks);
      return absl::OkStatus();
    });
    state.SetLabel(label);
    if (const absl::Status ended = (*pool)->Shutdown(); !ended.ok()) {
      latencies.Take();
      Fail(state, ended);
    }
  };
  return row;
}

}  // namespace

std::string FallbackText(const std::vector<Fallback>& fallbacks) {
  std::string text;
  for (const Fallback& fallback : fallbacks) {
    text += fmt::format("{}wanted {}, used {}", text.empty() ? "" : "; ", fallback.wanted,
                        fallback.used);
    if (fallback.error != 0) text += " (" + ErrnoText(fallback.error) + ")";
  }
  return text;
}

Command PayloadCommand(const std::string& payload) {
  Command command;
  command.argv = {payload};
  // A worker that hangs must not hang the run: it becomes an error.
  command.timeout = std::chrono::seconds(20);
  return command;
}

absl::Status CheckPayload(const std::string& payload) {
  if (payload.empty() || payload.front() != '/') {
    return Error(absl::StatusCode::kInvalidArgument, "the payload must be an absolute path, not {}",
                 payload);
  }
  if (access(payload.c_str(), X_OK) != 0) return ErrnoError(errno, "looking for {}", payload);
  for (const std::string_view private_inside : {"/tmp/", "/run/", "/dev/"}) {
    if (!payload.starts_with(private_inside)) continue;
    return Error(absl::StatusCode::kInvalidArgument,
                 "the payload {} cannot be seen by an isolated process, whose {} is its own: build "
                 "elsewhere, or name a copy with --payload",
                 payload, private_inside);
  }
  return absl::OkStatus();
}

std::vector<Row> SpawnRows(const Command& command) {
  std::vector<Row> rows;
  rows.push_back(FloorRow(command));
  rows.push_back(LibcRow(kSpawnFork, command, ForkOnce));
  rows.push_back(LibcRow(kSpawnVfork, command, VforkOnce));
  rows.push_back(LibcRow(kSpawnPosix, command, PosixSpawnOnce));
  rows.push_back(NamespacesRow(command));
  rows.push_back(PoolRow(kSpawnCold, command, SpawnPath::kCold));
  rows.push_back(PoolRow(kSpawnZygote, command, SpawnPath::kZygote));
  rows.push_back(PoolRow(kSpawnParked, command, SpawnPath::kParked));
  return rows;
}

BurstOptions IsolatedBurst(const Command& command, std::uint32_t count) {
  BurstOptions options;
  options.command = command;
  options.count = count;
  options.concurrency = count;
  options.parked = count;
  options.path = SpawnPath::kParked;
  return options;
}

}  // namespace brood::bench
