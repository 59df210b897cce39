// brood run: one isolated process, from nothing to its exit status.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "pool/cli/commands.h"
#include "pool/cli/isolation_options.h"
#include "pool/cli/terminal.h"
#include "pool/launcher_resources.h"
#include "spawn/cold.h"
#include "spawn/reap.h"
#include "spawn/status.h"

namespace brood {
namespace {

struct RunOptions {
  IsolationOptions isolation;
  bool terminal = false;
  bool interactive = false;
  CLI::Option* json = nullptr;
  std::string json_file;
};

absl::StatusOr<UniqueFd> TakeSignals(const std::vector<int>& numbers) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : numbers) sigaddset(&set, number);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return ErrnoError(errno, "blocking signals");
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return ErrnoError(errno, "taking signals");
  return fd;
}

// The user's terminal, raw, and the thread that carries bytes between it and the command's.
class TerminalSession {
 public:
  absl::Status Start(Stdio& stdio) {
    BROOD_ASSIGN_OR_RETURN(winch_, TakeSignals({SIGWINCH}));
    BROOD_ASSIGN_OR_RETURN(socket_, TerminalSocket::Make());
    stop_.reset(eventfd(0, EFD_CLOEXEC));
    if (!stop_.valid()) return ErrnoError(errno, "making an eventfd");
    const TerminalSize size = SizeOf(STDIN_FILENO);
    BROOD_ASSIGN_OR_RETURN(raw_, RawTerminal::Enter(STDIN_FILENO));
    stdio.mode = StdioMode::kTerminal;
    stdio.fds[0] = socket_.workers.get();
    stdio.rows = size.rows;
    stdio.columns = size.columns;
    thread_ = std::thread(
        [this] { RelayUntil(socket_, STDIN_FILENO, STDOUT_FILENO, winch_.get(), stop_.get()); });
    return absl::OkStatus();
  }
  // The command has ended: what it wrote last is still to be shown.
  ~TerminalSession() {
    if (!thread_.joinable()) return;
    socket_.workers.reset();
    const std::uint64_t one = 1;
    (void)!write(stop_.get(), &one, sizeof(one));
    thread_.join();
  }

 private:
  UniqueFd winch_;
  UniqueFd stop_;
  TerminalSocket socket_;
  std::unique_ptr<RawTerminal> raw_;
  std::thread thread_;
};

absl::StatusOr<Outcome> RunOnce(const RunOptions& options, const std::vector<std::string>& words) {
  BROOD_ASSIGN_OR_RETURN(auto resolved, options.isolation.Resolve(words));
  resolved.command.stdio.mode = StdioMode::kInherit;
  BROOD_ASSIGN_OR_RETURN(const Blueprint blueprint,
                         Blueprint::Make(resolved.spec, PlanKind::kCold));
  LauncherResources::Wanted wanted;
  wanted.Add(resolved.spec, 1);
  BROOD_ASSIGN_OR_RETURN(LauncherResources resources, LauncherResources::Acquire(wanted));
  // Signals meant for the command reach us instead, because it lives in a session of its own. With
  // a terminal of its own, the terminal tells it of a change of size.
  std::vector<int> forwarded = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT};
  if (!options.terminal) forwarded.push_back(SIGWINCH);
  BROOD_ASSIGN_OR_RETURN(const UniqueFd signals, TakeSignals(forwarded));
  TerminalSession terminal;
  if (options.terminal) BROOD_RETURN_IF_ERROR(terminal.Start(resolved.command.stdio));

  Birthplace place;
  const CgroupNest* nest = resources.nest ? &*resources.nest : nullptr;
  if (nest != nullptr) {
    place.nest_fd = nest->fd();
    BROOD_ASSIGN_OR_RETURN(place.leaf, nest->MakeLeaf("worker", resolved.spec.limits));
  }
  if (absl::StatusOr<std::uint32_t> first = resources.ids.Take(); first.ok()) {
    place.id_first = *first;
  }
  BROOD_ASSIGN_OR_RETURN(Outcome outcome,
                         RunCold(blueprint, resolved.command, place, nest, signals.get()));
  outcome.fallbacks.insert(outcome.fallbacks.begin(), resources.fallbacks.begin(),
                           resources.fallbacks.end());
  if (resources.nest) BROOD_RETURN_IF_ERROR(resources.nest->Remove());
  return outcome;
}

int Run(const RunOptions& options, const std::vector<std::string>& words) {
  absl::StatusOr<Outcome> outcome = RunOnce(options, words);
  if (!outcome.ok()) return Complain(outcome.status());
  if (outcome->end == End::kSetupFailed) {
    std::fprintf(stderr, "brood: %s\n", outcome->message.c_str());
  } else if (outcome->end == End::kTimeout) {
    std::fprintf(stderr, "brood: the command's time was up; all of it was killed\n");
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
      "Run one command behind all fences: eight namespaces, its own cgroup, a read-only root, no\n"
      "capabilities, a system call filter, no network but loopback.\n\n"
      "  brood run -- id\n"
      "  brood run --rootfs /srv/debian --root-mode overlay -- /bin/bash\n"
      "  brood run --cpus 0.5 --cpuset-cpus 0-1 --io-max /srv:wbps=10M -- make\n"
      "  brood run -v $PWD:/mnt:ro --memory 64M --timeout 5s -- sha256sum /mnt/file\n\n"
      "Limits are those of its cgroup (cgroups(7)) and need their controllers on cgroup2. A "
      "command\n"
      "that fails is told on stderr which of them it met. In the JSON, whatever the kernel does "
      "not\n"
      "say is absent: cpu_periods, cpu_throttled_periods and cpu_throttled_us (cpu.stat),\n"
      "memory_peak_bytes, memory_high_events, oom_kills, oom_group_kills, and oom_cause: "
      "own_limit,\n"
      "or above when a cgroup above or the machine had no more memory (memory.events); pids_peak,\n"
      "pids_refused (pids.events); io (io.stat); limits_met, the sentences.\n\n"
      "Exit status: the command's; 128+n when signal n ended it; 124 timeout; 125 brood failed;\n"
      "126 not executable; 127 not found.");
  options->isolation.AddTo(*run);
  run->add_flag("-t,--tty", options->terminal, "Give it a terminal of its own")->group("Process");
  run->add_flag("-i,--interactive", options->interactive,
                "As with submit; it has this stdin anyway")
      ->group("Process");
  options->json = run->add_option("--json", options->json_file,
                                  "Write the outcome as JSON to FILE, or to stderr")
                      ->type_name("[FILE]")
                      ->expected(0, 1)
                      ->group("Report");
  return [options](const std::vector<std::string>& words) { return Run(*options, words); };
}

}  // namespace brood
