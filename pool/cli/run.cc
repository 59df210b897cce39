// SPDX-License-Identifier: Apache-2.0

// brood run: one isolated process, from nothing to its exit status.
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "pool/cli/commands.h"
#include "pool/cli/foreground.h"
#include "pool/cli/isolation_options.h"
#include "pool/core/launcher_resources.h"
#include "pool/core/start_thread.h"
#include "spawn/base/status.h"
#include "spawn/host/process_tree.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"

namespace brood {
namespace {

struct RunOptions {
  IsolationOptions isolation;
  bool terminal = false;
  bool interactive = false;
  CLI::Option* json = nullptr;
  std::string json_file;
};

// The command in the foreground, watched by a thread of its own: a terminal that takes nothing must
// not keep the command's deadline, or its end, from being seen.
class ForegroundThread {
 public:
  // `init`: the command has one between (Spec::init).
  absl::Status Prepare(const Foreground::Options& options, bool init, Stdio& stdio) {
    init_ = init;
    BROOD_ASSIGN_OR_RETURN(foreground_, Foreground::Begin(options));
    stdio = foreground_->stdio();
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
      return ErrnoError(errno, "making a socket for signals");
    }
    orders_.reset(ends[0]);
    executor_.reset(ends[1]);
    stop_.reset(eventfd(0, EFD_CLOEXEC));
    if (!stop_.valid()) return ErrnoError(errno, "making an eventfd");
    return absl::OkStatus();
  }
  // For RunCold: where the orders come, and what it calls when the command is on its way, beside
  // which the thread is made.
  int orders() const { return executor_.get(); }
  absl::Status Started(int pid) {
    pid_ = pid;
    foreground_->Started();
    return StartThread(thread_, [this] { Watch(); });
  }
  // The command has ended: what it wrote last is still to be shown.
  ~ForegroundThread() {
    if (!thread_.joinable()) return;
    shutdown(executor_.get(), SHUT_RDWR);
    const std::uint64_t one = 1;
    (void)!write(stop_.get(), &one, sizeof(one));
    thread_.join();
    foreground_->Finish();
  }

 private:
  void Watch() {
    const ForegroundActions actions = {
        .signal = [this](const SignalOrder& order) { Give(order); },
        .ask_reads =
            [this](const FileIdentity& file) { foreground_->TellReads(WaitsToRead(pid_, file)); }};
    (void)foreground_->Watch(stop_.get(), actions);
  }
  // Returns once it is done, or the command has ended: nobody shall be stopped before the command.
  void Give(const SignalOrder& order) const {
    // An init passes it on, and it would end a command that has no handler.
    if (order.handlers_only != 0 && init_) return;
    char done = 0;
    if (send(orders_.get(), &order, sizeof(order), MSG_NOSIGNAL) < 0) return;
    while (recv(orders_.get(), &done, 1, 0) < 0 && errno == EINTR) {
    }
  }

  std::unique_ptr<Foreground> foreground_;
  UniqueFd orders_;
  UniqueFd executor_;
  UniqueFd stop_;
  bool init_ = false;
  int pid_ = 0;
  std::thread thread_;
};

// Kills whatever the command has left to this process, which takes over what has lost its parent.
void KillOrphans() {
  for (std::vector<int> children; !(children = ChildrenOf(getpid())).empty();) {
    for (const int child : children) KillTree(child);
    for (const int child : children) waitpid(child, nullptr, __WALL);
  }
}

absl::StatusOr<Outcome> RunOnce(const RunOptions& options, const std::vector<std::string>& words) {
  BROOD_ASSIGN_OR_RETURN(auto resolved, options.isolation.Resolve(words));
  if (options.isolation.spec_options().asks_for_reuse()) {
    return InvalidError(
        "--reuse namespaces: brood run makes all namespaces for its one command; those of one that "
        "has ended are for a pool's workers (brood serve, brood burst)");
  }
  BROOD_ASSIGN_OR_RETURN(const Blueprint blueprint,
                         Blueprint::Make(resolved.spec, PlanKind::kCold));
  LauncherResources::Wanted wanted;
  wanted.Add(resolved.spec, 1);
  BROOD_ASSIGN_OR_RETURN(LauncherResources resources, LauncherResources::Acquire(wanted));
  Birthplace place;
  const ParentCgroup* parent = resources.parent ? &*resources.parent : nullptr;
  // Neither a pid namespace nor a cgroup holds together what is to be killed then.
  const bool loose = parent == nullptr && !resolved.spec.is_new(NamespaceKind::kPid);
  if (loose) prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (parent != nullptr) {
    place.parent_fd = parent->fd();
    BROOD_ASSIGN_OR_RETURN(place.leaf, parent->MakeLeaf("worker", resolved.spec.limits));
  }
  if (absl::StatusOr<std::uint32_t> first = resources.ids.Take(); first.ok()) {
    place.id_first = *first;
  }
  const auto run = [&]() -> absl::StatusOr<Outcome> {
    ForegroundThread foreground;
    BROOD_RETURN_IF_ERROR(foreground.Prepare({.terminal = options.terminal, .input = true},
                                             resolved.spec.init, resolved.command.stdio));
    return RunCold(blueprint, resolved.command, place, parent, foreground.orders(),
                   [&](int pid) { return foreground.Started(pid); });
  };
  BROOD_ASSIGN_OR_RETURN(Outcome outcome, run());
  if (loose && (outcome.end == End::kTimeout || outcome.end == End::kKilled)) {
    KillOrphans();
    outcome.message.clear();
  }
  outcome.fallbacks.insert(outcome.fallbacks.begin(), resources.fallbacks.begin(),
                           resources.fallbacks.end());
  if (resources.parent) BROOD_RETURN_IF_ERROR(resources.parent->Remove());
  return outcome;
}

int Run(const RunOptions& options, const std::vector<std::string>& words) {
  absl::StatusOr<Outcome> outcome = RunOnce(options, words);
  if (!outcome.ok()) return Complain(outcome.status());
  if (!outcome->message.empty()) {
    std::fprintf(stderr, "brood: %s\n", outcome->message.c_str());
  } else if (outcome->end == End::kTimeout) {
    std::fprintf(stderr, "brood: the command ran out of time; all its processes were killed\n");
  }
  // Of one that did well, --json tells it.
  if (!outcome->ok()) {
    for (const std::string& met : outcome->limits_met) {
      std::fprintf(stderr, "brood: %s\n", met.c_str());
    }
  }
  if (*options.json) {
    if (const absl::Status written =
            WriteJson(ToJson(*outcome), options.json_file, stderr, "the outcome");
        !written.ok()) {
      return Complain(written);
    }
  }
  return ExitStatus(*outcome);
}

}  // namespace

CommandAction AddRunCommand(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* run = app.add_subcommand("run", "Run one isolated command, cold");
  Describe(
      *run,
      "brood run [option...] [--] COMMAND [argument...]\n\n"
      "Run one command fully isolated: eight namespaces, its own cgroup, a read-only root, no\n"
      "capabilities, a system call filter, no network but loopback.\n\n"
      "  brood run -- id\n"
      "  brood run --rootfs /srv/debian --root-mode overlay -- /bin/bash\n"
      "  brood run --cpus 0.5 --cpuset-cpus 0-1 --io-max /srv:wbps=10M -- make\n"
      "  brood run -v $PWD:/mnt:ro --memory 64M --timeout 5s -- sha256sum /mnt/file\n\n"
      "Limits are those of its cgroup (cgroups(7)) and need their controllers on cgroup2. If the\n"
      "command fails, brood says on stderr which limits it met. The JSON has, as far as the "
      "kernel\n"
      "reports them: cpu_periods, cpu_throttled_periods and cpu_throttled_us (cpu.stat);\n"
      "memory_peak_bytes, memory_high_events, oom_kills, oom_group_kills, and oom_cause, which is\n"
      "own_limit, or above when a cgroup above or the machine ran out of memory (memory.events);\n"
      "pids_peak, pids_refused (pids.events); io (io.stat); and limits_met, the sentences.\n\n"
      "Signals go to the command. Ctrl-C or SIGTERM ends one that does not handle it; a second "
      "such\n"
      "signal kills it. Ctrl-Z stops the command and brood. In the background, a command that "
      "reads\n"
      "the terminal is stopped. With -t the command gets SIGHUP when the terminal is gone, and is\n"
      "killed if it has not ended 5 seconds later.\n\n"
      "Exit status: the command's; 128+n when signal n ended it; 124 timeout; 125 brood failed;\n"
      "126 not executable; 127 not found.");
  options->isolation.AddTo(*run);
  run->add_flag("-t,--tty", options->terminal, "Give it a terminal of its own")->group("Process");
  run->add_flag("-i,--interactive", options->interactive,
                "Accepted as for submit; run always passes this stdin")
      ->group("Process");
  options->json = run->add_option("--json", options->json_file,
                                  "Write the outcome as JSON to FILE, or to stderr")
                      ->type_name("[FILE]")
                      ->expected(0, 1)
                      ->group("Report");
  return [options](const std::vector<std::string>& words) { return Run(*options, words); };
}

}  // namespace brood
