// SPDX-License-Identifier: Apache-2.0

#include "bench/measures/paths.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "bench/measures/bare_clone.h"
#include "bench/measures/burst_row.h"
#include "bench/measures/exec_arguments.h"
#include "bench/measures/floors.h"
#include "bench/measures/held_namespaces.h"
#include "bench/measures/measures.h"
#include "bench/measures/namespaces.h"
#include "pool/pool.h"
#include "spawn/base/status.h"
#include "spawn/outcome.h"

namespace brood::bench {
namespace {

constexpr char kPathFloor[] = "spawn/clone3-vfork";

// All eight namespaces and not one thing in them: no mounts, no id maps, no lo, no cgroup, no
// filter.
Row NamespacesRow(const Command& command) {
  Row row;
  row.name = "spawn/clone3-namespaces";
  row.leaves_debt = true;
  row.run = [&command](benchmark::State& state, Samples& samples) {
    absl::StatusOr<BareClone> clone = BareClone::Create();
    if (!clone.ok()) return Fail(state, clone.status());
    const ExecArguments run(command);
    clone->child().unshare_flags = kAllByUnshare;
    clone->child().path = run.path();
    clone->child().argv = run.argv();
    clone->child().envp = run.envp();
    samples.Measure(state, [&] { return clone->RunOnce(kLikeVfork | kAllByClone); });
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
  return Error(absl::StatusCode::kFailedPrecondition, "{}", EndText(outcome));
}

// Has all workers of a measurement parked before it starts, and none made while it runs: that work
// would be measured, since it takes processors from what is.
absl::Status ParkAll(Pool& pool, std::uint32_t count) {
  BROOD_RETURN_IF_ERROR(pool.AwaitParked("", count, std::chrono::seconds(30)));
  pool.SetParked("", 0);
  pool.Stats();  // answered in the pool's thread, after it has seen the line above
  return absl::OkStatus();
}

// Each phase of the spawn, one after the other, in the order that they come in. When the launcher
// came back from clone3 is none of them: the worker goes on meanwhile.
void AddSteps(const Outcome& outcome, Samples& samples) {
  double before_us = 0;
  int number = 0;
  for (const Moment& moment : outcome.timeline) {
    if (moment.name == "cloned") continue;
    samples.Add(fmt::format("step_{:02}_{}_us", number++, moment.name), moment.at_us - before_us);
    before_us = moment.at_us;
  }
  if (outcome.park_us > 0) samples.Add("park_us", outcome.park_us);
}

// What a row's workers do not get new.
struct Reused {
  bool slot = true;  // all that a slot has; the others are for workers without one
  std::optional<NamespaceKind> joined = std::nullopt;
  bool no_filter = false;
};

Row PoolRow(std::string name, const Command& command, SpawnPath path,
            std::chrono::milliseconds quiet = {}, Reused reused = {}) {
  Row row;
  row.name = std::move(name);
  row.leaves_debt = true;
  // As many slots as one after the other can need, since each rests before it is used again.
  if (path == SpawnPath::kZygote && reused.slot) row.warm_ups = 64;
  row.run = [&command, path, quiet, reused](benchmark::State& state, Samples& samples) {
    const auto count = static_cast<std::uint32_t>(state.max_iterations + samples.warm_ups());
    PoolOptions options;
    TemplateOptions& tmpl = options.templates.emplace_back();
    tmpl.name = "bench";
    tmpl.spec.reuse = reused.slot ? Reuse::kNamespaces : Reuse::kNone;
    if (reused.no_filter) tmpl.spec.seccomp.mode = SeccompMode::kOff;
    std::unique_ptr<HeldNamespaces> held;
    if (reused.joined) {
      absl::StatusOr<std::unique_ptr<HeldNamespaces>> made = HeldNamespaces::Create();
      if (!made.ok()) return Fail(state, made.status());
      held = *std::move(made);
      tmpl.spec.ns(*reused.joined) = held->Join(*reused.joined);
    }
    tmpl.parked = path == SpawnPath::kParked ? count : 0;
    // A pool for each measurement: its threads and zygotes are gone when other rows run.
    absl::StatusOr<std::unique_ptr<Pool>> pool = Pool::Create(std::move(options));
    if (!pool.ok()) return Fail(state, pool.status());
    if (path == SpawnPath::kParked) {
      if (const absl::Status parked = ParkAll(**pool, count); !parked.ok()) {
        return Fail(state, parked);
      }
    }
    std::string label;
    samples.MeasureAfter(state, quiet, [&]() -> absl::Status {
      BROOD_ASSIGN_OR_RETURN(const Outcome outcome, PoolOnce(**pool, command, path));
      if (label.empty() && !outcome.fallbacks.empty()) label = ToText(outcome.fallbacks);
      AddSteps(outcome, samples);
      return absl::OkStatus();
    });
    state.SetLabel(label);
    if (const absl::Status ended = (*pool)->Shutdown(); !ended.ok()) {
      samples.Release();
      Fail(state, ended);
    }
  };
  return row;
}

// As many as are parked, all asked for at once.
Row BurstOf(const Command& command, std::uint32_t count) {
  BurstOptions options;
  options.command = command;
  options.count = count;
  options.concurrency = count;
  options.parked = count;
  Row row = BurstRow("spawn/burst", std::move(options));
  row.every = 1;  // bare bursts differ from one to the next more than anything else here
  row.parameters = {{"count", count}};
  row.note = "bursts of processes asked for at once, and before and after as many bare ones";
  return row;
}

}  // namespace

Command PayloadCommand(const std::string& payload) {
  Command command;
  command.argv = {payload};
  // A worker that hangs must not hang the run: it becomes an error.
  command.timeout = std::chrono::seconds(20);
  return command;
}

absl::Status CheckPayload(const std::string& payload) {
  if (payload.empty() || payload.front() != '/') {
    return InvalidError("the payload must be an absolute path, not {}", payload);
  }
  if (access(payload.c_str(), X_OK) != 0) return ErrnoError(errno, "looking for {}", payload);
  for (const std::string_view private_inside : {"/tmp/", "/run/", "/dev/"}) {
    if (!payload.starts_with(private_inside)) continue;
    return InvalidError(
        "the payload {} cannot be seen by an isolated process, whose {} is its own: build "
        "elsewhere, or name a copy with --payload",
        payload, private_inside);
  }
  return absl::OkStatus();
}

std::vector<Row> PathRows(const Setup& setup) {
  const Command& command = setup.payload;
  std::vector<Row> rows;
  rows.push_back(ExecRow(kPathFloor, Start::kClone3Vfork, command));
  rows.push_back(ExecRow("spawn/fork", Start::kFork, command));
  rows.push_back(ExecRow("spawn/vfork", Start::kVfork, command));
  rows.push_back(ExecRow("spawn/posix_spawn", Start::kPosixSpawn, command));
  rows.push_back(NamespacesRow(command));
  rows.push_back(PoolRow("spawn/brood-cold", command, SpawnPath::kCold));
  rows.push_back(PoolRow("spawn/brood-zygote", command, SpawnPath::kZygote));
  rows.push_back(PoolRow("spawn/brood-parked", command, SpawnPath::kParked));
  // What is it worth that namespaces are used again?
  const auto fresh = [&](std::string name, Reused reused) {
    reused.slot = false;
    rows.push_back(PoolRow(std::move(name), command, SpawnPath::kZygote, /*quiet=*/{}, reused));
  };
  fresh("spawn/brood-zygote-fresh", {});
  fresh("spawn/brood-zygote-fresh/no-filter", {.no_filter = true});
  fresh("spawn/brood-zygote-fresh/net-again", {.joined = NamespaceKind::kNet});
  fresh("spawn/brood-zygote-fresh/user-again", {.joined = NamespaceKind::kUser});
  for (Row& row : rows) {
    if (row.name != kPathFloor) row.floor = kPathFloor;
  }
  // One now and then, when all that the last one left behind has been cleaned up.
  const std::string idle_floor = std::string(kPathFloor) + "/idle";
  rows.push_back(ExecRow(idle_floor, Start::kClone3Vfork, command, kQuiet));
  rows.push_back(PoolRow("spawn/brood-cold/idle", command, SpawnPath::kCold, kQuiet));
  rows.push_back(PoolRow("spawn/brood-zygote/idle", command, SpawnPath::kZygote, kQuiet));
  rows.push_back(PoolRow("spawn/brood-parked/idle", command, SpawnPath::kParked, kQuiet));
  for (Row& row : rows) {
    if (!row.name.ends_with("/idle")) continue;
    row.iterations = 15;
    row.warm_ups = 1;
    row.parameters = {{"idle_ms", static_cast<double>(kQuiet.count())}};
    if (row.name != idle_floor) row.floor = idle_floor;
  }
  rows.push_back(BurstOf(command, 1000));
  for (Row& row : rows) row.brief = true;
  return rows;
}

}  // namespace brood::bench
