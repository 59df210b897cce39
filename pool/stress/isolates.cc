// SPDX-License-Identifier: Apache-2.0

#include "pool/stress/isolates.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "pool/pool.h"
#include "pool/stress/ceiling.h"
#include "pool/stress/leftovers.h"
#include "pool/stress/subprocess.h"
#include "pool/stress/unit.h"
#include "spawn/base/kernel.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood::limits {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// What one launcher runs, at most. A running worker costs it a descriptor and, while its namespaces
// are held, three more, and a pool keeps as much room again for those that are being closed.
constexpr std::uint64_t kShare = 1'500;
constexpr std::uint64_t kDescriptorsEach = 16;
// Requests that a launcher has waiting at once.
constexpr std::uint64_t kAhead = 64;
// An isolate with a `sleep` in it: kernel memory of its namespaces, and the program's own pages.
constexpr Cost kIsolate{.processes = 1, .bytes = 550'000};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the kernel counts, before, at the peak, and afterwards.
struct Counts {
  std::uint64_t threads = 0;
  std::uint64_t cgroups = 0;                    // dying ones among them
  std::optional<std::uint64_t> net_namespaces;  // by the slab allocator's count, as root
  std::uint64_t available_bytes = 0;
};

// The kernel frees what it has taken down of a batch of network namespaces with the next batch only
// (net_complete_free, Linux 6.13), and the slab allocator counts objects as in use that lie ready
// for a processor: one more namespace, and a look through the slabs, makes the count true.
void SettleNetNamespaces() {
  const int pid = ForkIdle(kernel::kCloneNewNet);
  if (pid < 0) return;
  std::vector<int> one = {pid};
  EndChildren(one);
  usleep(100'000);
  WriteFile("/sys/kernel/slab/net_namespace/shrink", "1");
}

Counts Look(const std::string& cgroup_mount) {
  Counts counts;
  counts.threads = MachineThreads().value_or(0);
  counts.cgroups = CountCgroupsBelow(cgroup_mount).value_or(0);
  std::ifstream slabs("/proc/slabinfo");
  for (std::string line; std::getline(slabs, line);) {
    std::istringstream words(line);
    std::string word;
    std::uint64_t active = 0;
    if (words >> word >> active && word == "net_namespace") counts.net_namespaces = active;
  }
  counts.available_bytes = MeminfoBytes("MemAvailable:");
  return counts;
}

// Talks to the process that counts: one line for each piece of news.
class Reports {
 public:
  explicit Reports(int fd) : fd_(fd) {}
  void Say(std::string_view word, std::string_view text) {
    std::string line = fmt::format("{} {}", word, text.substr(0, kMost));
    std::replace(line.begin(), line.end(), '\n', ' ');
    line.push_back('\n');
    // There is nobody to tell when nobody reads.
    [[maybe_unused]] const ssize_t written = write(fd_, line.data(), line.size());
  }

 private:
  static constexpr std::size_t kMost = 2000;  // a line is whole below PIPE_BUF

  int fd_;
};

// Launches `share` workers, tells how many run, and ends them when `orders` ends.
class Launcher {
 public:
  // `orders` ends when the workers are to end, however many there are by then.
  Launcher(std::uint64_t share, int orders, int reports)
      : share_(share), orders_(orders), reports_(reports) {}

  int Run() {
    const absl::Status status = Grow();
    if (!status.ok()) {
      reports_.Say("refused", Message(status));
    } else {
      reports_.Say("complete", std::to_string(share_));
    }
    while (!OrdersEnd(-1)) {
    }
    if (pool_ == nullptr) return 0;
    const absl::Status ended = pool_->Shutdown(std::chrono::nanoseconds(0));
    if (!ended.ok()) reports_.Say("unclean", Message(ended));
    return ended.ok() ? 0 : 1;
  }

 private:
  absl::Status Grow() {
    TemplateOptions one;
    one.parked = static_cast<std::uint32_t>(std::min(kAhead, share_));
    one.max_workers = static_cast<std::uint32_t>(share_ + 2 * kAhead);
    PoolOptions options;
    options.templates.push_back(std::move(one));
    BROOD_ASSIGN_OR_RETURN(pool_, Pool::Create(std::move(options)));
    std::uint64_t told = 0;
    std::uint64_t asked = 0;
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (!refused_.ok()) return refused_;
      }
      const std::uint64_t running = pool_->Stats().running;
      if (running > told) reports_.Say("running", std::to_string(told = running));
      if (running >= share_) {
        pool_->SetParked("", 0);
        return absl::OkStatus();
      }
      if (OrdersEnd(0)) return absl::OkStatus();
      for (; asked < std::min(share_, running + kAhead); ++asked) BROOD_RETURN_IF_ERROR(Ask());
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  bool OrdersEnd(int timeout_ms) const {
    pollfd wait{orders_, POLLIN, 0};
    return poll(&wait, 1, timeout_ms) > 0;
  }

  absl::Status Ask() {
    Request request;
    request.command.argv = {"/bin/sleep", "1000000"};
    return pool_->Submit(std::move(request), [this](absl::StatusOr<Outcome> outcome) {
      const std::lock_guard lock(mutex_);
      if (!refused_.ok()) return;
      if (!outcome.ok()) {
        refused_ = outcome.status();
      } else {
        refused_ = Error(absl::StatusCode::kResourceExhausted, "an isolate ended early: {}",
                         EndText(*outcome));
      }
    });
  }

  std::uint64_t share_;
  int orders_;
  Reports reports_;
  std::mutex mutex_;
  absl::Status refused_;  // guarded by mutex_
  std::unique_ptr<Pool> pool_;
};

// The process that counts, with its launchers.
class Crowd {
 public:
  explicit Crowd(const IsolatesOptions& options) : options_(options) {}

  absl::StatusOr<Json> Run() {
    BROOD_ASSIGN_OR_RETURN(const CgroupHost host, CgroupHost::Discover());
    SettleNetNamespaces();
    const Counts before = Look(host.mount);
    // Whoever is short of memory takes these processes first; launchers and workers inherit it.
    WriteFile("/proc/self/oom_score_adj", "1000");
    BROOD_RETURN_IF_ERROR(RaiseLimits());
    json_["predicted"] = Predicted();
    BROOD_RETURN_IF_ERROR(Grow());
    const Counts peak = Look(host.mount);
    json_["reached"] = running_;
    json_["processes_seen"] = peak.threads - std::min(peak.threads, before.threads);
    json_["stopped_by"] = stopped_by_;
    if (!sentence_.empty()) json_["sentence"] = sentence_;
    json_["launchers"] = launchers_.size();
    json_["seconds"] = seconds_;
    json_["curve"] = curve_;
    if (running_ > 0 && before.available_bytes > peak.available_bytes) {
      json_["bytes_each"] = (before.available_bytes - peak.available_bytes) / running_;
    }
    TearDown(host.mount, before, peak);
    return json_;
  }

 private:
  struct One {
    pid_t pid = 0;
    UniqueFd orders;  // its end of file ends the launcher
    UniqueFd reports;
    std::uint64_t running = 0;
  };

  absl::Status RaiseLimits() {
    json_["unit"] = "isolates";
    json_["what"] = "processes, each fully isolated";
    json_["set_to"] = options_.up_to;
    Json raised = Json::array();
    const auto raise = [&](const std::string& file, std::uint64_t needed) -> absl::Status {
      const std::optional<std::uint64_t> now = FirstNumberOf(file);
      if (!now || *now >= needed) return absl::OkStatus();
      BROOD_RETURN_IF_ERROR(SetForNow(file, needed, getppid()));
      raised.push_back({{"file", file}, {"from", *now}, {"to", needed}});
      return absl::OkStatus();
    };
    // Beside the workers: those parked, zygotes, and what the machine runs anyway.
    const std::uint64_t needed = options_.up_to + options_.up_to / 4 + 2'000;
    BROOD_RETURN_IF_ERROR(raise("/proc/sys/kernel/pid_max", needed));
    BROOD_RETURN_IF_ERROR(raise("/proc/sys/kernel/threads-max", needed));
    for (const NamespaceKind kind : kNamespaceKinds) {
      const std::string_view name = NamespaceProcName(kind);
      BROOD_RETURN_IF_ERROR(raise(fmt::format("/proc/sys/user/max_{}_namespaces", name), needed));
    }
    json_["raised"] = std::move(raised);
    return absl::OkStatus();
  }

  Json Predicted() const {
    const Unit unit{.name = "isolates", .limit = "up-to", .cost = kIsolate};
    const Ceiling ceiling = Predict(unit, options_.up_to, Reserve());
    return {{"limit", ceiling.limit}, {"reached", ceiling.count}};
  }

  std::uint64_t Reserve() const {
    return static_cast<std::uint64_t>(static_cast<double>(MeminfoBytes("MemTotal:")) *
                                      options_.memory_reserve);
  }

  absl::StatusOr<One> Start(std::uint64_t share) {
    std::array<int, 2> orders{};
    std::array<int, 2> reports{};
    if (pipe2(orders.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
    One one;
    const UniqueFd order(orders[0]);
    one.orders.reset(orders[1]);
    if (pipe2(reports.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
    one.reports.reset(reports[0]);
    const UniqueFd report(reports[1]);
    const pid_t parent = getpid();
    one.pid = fork();
    if (one.pid < 0) return ErrnoError(errno, "forking a launcher");
    if (one.pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(0);
      // The others' orders end when all who hold them are gone.
      for (One& other : launchers_) other.orders.reset();
      one.orders.reset();
      Launcher launcher(share, order.get(), report.get());
      _exit(launcher.Run());
    }
    return one;
  }

  // One launcher after the other, so that the cost of one more is not two launchers' together.
  absl::Status Grow() {
    const Clock::time_point start = Clock::now();
    stopped_by_ = "up-to";
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    const std::uint64_t each =
        std::clamp<std::uint64_t>(files.rlim_max / kDescriptorsEach, 16, kShare);
    while (running_ < options_.up_to && stopped_by_ == "up-to") {
      const std::uint64_t share = std::min(each, options_.up_to - running_);
      BROOD_ASSIGN_OR_RETURN(One started, Start(share));
      launchers_.push_back(std::move(started));
      Follow(launchers_.back(), start);
    }
    seconds_ = SecondsSince(start);
    return absl::OkStatus();
  }

  void Follow(One& one, Clock::time_point start) {
    const std::uint64_t others = running_;
    std::string text;
    std::array<char, 4096> buffer{};
    for (;;) {
      if (Clock::now() - start > options_.budget) {
        stopped_by_ = "budget";
        return;
      }
      if (MeminfoBytes("MemAvailable:") < Reserve()) {
        stopped_by_ = "memory";
        return;
      }
      pollfd wait{one.reports.get(), POLLIN, 0};
      if (poll(&wait, 1, 100) <= 0) continue;
      const ssize_t n = read(one.reports.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        stopped_by_ = "refused";
        sentence_ = "a launcher was killed";
        return;
      }
      text.append(buffer.data(), static_cast<std::size_t>(n));
      for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
        const std::string line = text.substr(0, end);
        text.erase(0, end + 1);
        const std::string word = line.substr(0, line.find(' '));
        const std::string rest = line.substr(std::min(line.size(), word.size() + 1));
        if (word == "running") {
          one.running = std::stoull(rest);
          running_ = others + one.running;
          AddToCurve(SecondsSince(start));
        } else if (word == "complete") {
          return;
        } else {
          stopped_by_ = "refused";
          sentence_ = rest;
          return;
        }
      }
    }
  }

  // One point for each twentieth of what is wanted, with the mean of those since the last.
  void AddToCurve(double seconds) {
    const std::uint64_t step = std::max<std::uint64_t>(options_.up_to / 40, 1);
    if (running_ < curve_count_ + step) return;
    const double each =
        (seconds - curve_seconds_) * 1e6 / static_cast<double>(running_ - curve_count_);
    curve_.push_back({running_, each});
    curve_count_ = running_;
    curve_seconds_ = seconds;
  }

  void TearDown(const std::string& mount, const Counts& before, const Counts& peak) {
    const Clock::time_point start = Clock::now();
    for (One& one : launchers_) one.orders.reset();
    bool clean = true;
    for (One& one : launchers_) {
      int status = 0;
      while (waitpid(one.pid, &status, 0) < 0 && errno == EINTR) {
      }
      clean = clean && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    json_["launchers_ended_ms"] = SecondsSince(start) * 1e3;
    // What the kernel does in its own time: dead network namespaces and cgroups, memory by RCU.
    Counts after = Look(mount);
    while (!Back(before, peak, after) && SecondsSince(start) < 120) {
      SettleNetNamespaces();
      after = Look(mount);
    }
    json_["drained"] = clean && Back(before, peak, after);
    json_["drain_ms"] = SecondsSince(start) * 1e3;
    const auto three = [](std::uint64_t a, std::uint64_t b, std::uint64_t c) {
      return Json{{"before", a}, {"peak", b}, {"after", c}};
    };
    Json counts;
    counts["threads"] = three(before.threads, peak.threads, after.threads);
    counts["cgroups"] = three(before.cgroups, peak.cgroups, after.cgroups);
    if (before.net_namespaces && peak.net_namespaces && after.net_namespaces) {
      counts["net_namespaces"] =
          three(*before.net_namespaces, *peak.net_namespaces, *after.net_namespaces);
    }
    counts["available_bytes"] =
        three(before.available_bytes, peak.available_bytes, after.available_bytes);
    json_["counts"] = std::move(counts);
    const std::uint64_t grown = peak.threads - std::min(before.threads, peak.threads);
    const std::uint64_t left = after.threads - std::min(before.threads, after.threads);
    json_["recovered"] =
        grown == 0 ? 1.0 : 1.0 - static_cast<double>(left) / static_cast<double>(grown);
  }

  // Others come and go meanwhile, kernel threads among them: what is within a thousandth of what
  // there was, or a few dozen, is back.
  static bool Back(const Counts& before, const Counts& peak, const Counts& after) {
    const auto near = [](std::uint64_t was, std::uint64_t highest, std::uint64_t now) {
      return now <= was + std::max<std::uint64_t>((highest - std::min(was, highest)) / 1000, 32);
    };
    return near(before.threads, peak.threads, after.threads) &&
           near(before.cgroups, peak.cgroups, after.cgroups) &&
           near(before.net_namespaces.value_or(0), peak.net_namespaces.value_or(0),
                after.net_namespaces.value_or(0));
  }

  const IsolatesOptions& options_;
  Json json_;
  std::vector<One> launchers_;
  std::uint64_t running_ = 0;
  std::string_view stopped_by_;
  std::string sentence_;
  double seconds_ = 0;
  Json curve_ = Json::array();
  std::uint64_t curve_count_ = 0;
  double curve_seconds_ = 0;
};

}  // namespace

absl::StatusOr<Json> PushIsolates(const IsolatesOptions& options) {
  if (geteuid() != 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "pushing the machine itself needs root");
  }
  // Growing, and as long again for the end, which is slower where memory is short.
  return RunInSubprocess(options.budget * 2 + std::chrono::seconds(180),
                         [&] { return Crowd(options).Run(); });
}

}  // namespace brood::limits
