// SPDX-License-Identifier: Apache-2.0

#include "pool/burst/burst.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "pool/burst/floor.h"
#include "pool/burst/percentile.h"
#include "pool/daemon/client.h"
#include "spawn/base/clock.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/host/mountinfo.h"
#include "spawn/host/process_tree.h"
#include "spawn/launch/reap.h"
#include "spawn/limits/limits.h"

namespace brood {
namespace {

LatencySummary Summarize(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {Percentile(values, 50), Percentile(values, 90), Percentile(values, 99),
          values.empty() ? 0 : values.back()};
}

// What could be left behind, counted.
struct Census {
  int processes = 0;
  int mounts = 0;
  int fds = 0;

  static Census Take() {
    return {static_cast<int>(ChildrenOf(getpid()).size()), static_cast<int>(ReadOwnMounts().size()),
            static_cast<int>(NumbersIn("/proc/self/fd").size())};
  }
};

constexpr std::chrono::milliseconds kRest{200};

class Burst {
 public:
  explicit Burst(const BurstOptions& options) : options_(options) {
    concurrency_ =
        options.concurrency == 0 ? options.count : std::min(options.concurrency, options.count);
    parked_ = options.parked == 0 ? std::min(options.count, 1000U) : options.parked;
    if (options.path != SpawnPath::kParked) parked_ = 0;
  }

  absl::StatusOr<BurstReport> Run() {
    if (options_.count == 0) {
      return InvalidError("a burst needs at least one worker");
    }
    const Census before = Census::Take();
    if (options_.floor) {
      BROOD_ASSIGN_OR_RETURN(FloorSpawner floor, FloorSpawner::Create(options_.command));
      floor_.emplace(std::move(floor));
    }
    // Bursts are compared with bare ones on a machine at rest: the kernel goes on for a while with
    // taking down what a pool has left to it.
    if (concurrency_ > 1) BROOD_RETURN_IF_ERROR(FloorsOfHalf(/*second=*/false));
    std::string cgroup_path;
    if (!options_.socket.empty()) {
      BROOD_RETURN_IF_ERROR(ThroughDaemon());
    } else {
      BROOD_ASSIGN_OR_RETURN(const std::unique_ptr<Pool> pool, MakePool());
      cgroup_path = pool->CgroupPath();
      BROOD_RETURN_IF_ERROR(Park(*pool));
      BROOD_RETURN_IF_ERROR(concurrency_ == 1 ? OneAtATime(*pool) : Submissions(*pool));
      PoolStats stats = pool->Stats();
      report_.slots = stats.slots;
      report_.park_us_p50 = Summarize(std::move(stats.park_us)).p50;
      if (const absl::Status ended = pool->Shutdown(); !ended.ok()) {
        Fail(std::string(Message(ended)));
      }
    }
    if (concurrency_ > 1) {
      std::this_thread::sleep_for(kRest);
      BROOD_RETURN_IF_ERROR(FloorsOfHalf(/*second=*/true));
    }
    const Census after = Census::Take();
    report_.left_behind.processes = std::max(0, after.processes - before.processes);
    report_.left_behind.mounts = std::max(0, after.mounts - before.mounts);
    report_.left_behind.fds = std::max(0, after.fds - before.fds);
    std::error_code ignored;
    report_.left_behind.cgroups =
        !cgroup_path.empty() && std::filesystem::exists(cgroup_path, ignored) ? 1 : 0;

    report_.count = options_.count;
    report_.wall_us = pool_wall_us_;
    report_.rate_per_s = options_.count / (pool_wall_us_ / 1e6);
    report_.latency_us = Summarize(latencies_);
    report_.floor_us = Summarize(floors_);
    if (floor_wall_us_ > 0) {
      report_.floor_rate_per_s = static_cast<double>(floors_.size()) / (floor_wall_us_ / 1e6);
    }
    return std::move(report_);
  }

 private:
  // Over one connection. Latency is what a client sees: from before its message is sent until the
  // answer has arrived.
  absl::Status ThroughDaemon() {
    BROOD_ASSIGN_OR_RETURN(Client client, Client::Connect(options_.socket));
    Submit submit;
    submit.template_name = options_.template_name;
    submit.argv = options_.command.argv;
    submit.env = options_.command.env;
    submit.cwd = options_.command.cwd;
    submit.io = ClientIo::kNone;
    std::map<std::uint64_t, std::int64_t> started;  // by tag
    const auto start_one = [&]() -> absl::Status {
      const std::int64_t now = NowNs();
      BROOD_ASSIGN_OR_RETURN(const std::uint64_t tag, client.Start(submit, {}));
      started[tag] = now;
      return absl::OkStatus();
    };
    const auto finish_one = [&]() -> absl::Status {
      BROOD_ASSIGN_OR_RETURN(const Incoming message, client.Next());
      const std::int64_t now = NowNs();
      BROOD_ASSIGN_OR_RETURN(const Ended ended, DecodeBody<Ended>(message.body));
      const auto start = started.find(message.header.tag);
      if (start == started.end()) {
        return Error(absl::StatusCode::kInternal, "request {} was answered twice",
                     message.header.tag);
      }
      latencies_.push_back(static_cast<double>(now - start->second) / 1000);
      started.erase(start);
      const auto outcome = nlohmann::json::parse(ended.outcome, nullptr, false);
      ++report_.path[outcome.is_object() ? outcome.value("spawn_path", "?") : "?"];
      if (ended.exit_status != 0) {
        Fail(ended.message.empty()
                 ? fmt::format("the command exited with status {}", ended.exit_status)
                 : ended.message);
      }
      return absl::OkStatus();
    };
    const bool alternate = options_.floor && concurrency_ == 1;
    std::uint32_t asked = 0;
    std::int64_t began = NowNs();
    while (asked < concurrency_) {
      BROOD_RETURN_IF_ERROR(start_one());
      ++asked;
    }
    for (std::uint32_t done = 1; done <= options_.count; ++done) {
      BROOD_RETURN_IF_ERROR(finish_one());
      if (alternate) {
        pool_wall_us_ += static_cast<double>(NowNs() - began) / 1000;
        BROOD_RETURN_IF_ERROR(Floors(1));
        began = NowNs();
      }
      if (done % 64 == 0 || done == options_.count) Progress("running", done, options_.count);
      if (asked == options_.count) continue;
      BROOD_RETURN_IF_ERROR(start_one());
      ++asked;
    }
    if (!alternate) pool_wall_us_ += static_cast<double>(NowNs() - began) / 1000;
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Pool>> MakePool() const {
    TemplateOptions tmpl;
    tmpl.name = "burst";
    tmpl.spec = options_.spec;
    tmpl.parked = parked_;
    tmpl.zygotes = options_.zygotes;
    PoolOptions pool;
    pool.launch_window = options_.launch_window;
    pool.templates.push_back(std::move(tmpl));
    return Pool::Create(std::move(pool));
  }

  void Progress(const char* what, std::uint32_t done, std::uint32_t of) const {
    if (options_.progress) options_.progress(what, done, of);
  }

  absl::Status Park(Pool& pool) {
    const std::uint32_t wanted = std::min(parked_, options_.count);
    if (wanted == 0) return absl::OkStatus();
    const auto memory = static_cast<double>(MeminfoBytes("MemAvailable:"));
    // In steps, for whoever watches; ten seconds without one more parked worker is too long.
    for (std::uint32_t step = 0; step < wanted;) {
      Progress("parking", step, wanted);
      step = std::min(wanted, step + std::max(1U, wanted / 50));
      BROOD_RETURN_IF_ERROR(pool.AwaitParked("", step, std::chrono::seconds(10)));
    }
    Progress("parking", wanted, wanted);
    // Fewer drown in what else the machine does.
    if (wanted >= 200) {
      const auto left = static_cast<double>(MeminfoBytes("MemAvailable:"));
      report_.park_bytes = std::max(0.0, memory - left) / wanted;
    }
    if (options_.count <= parked_) pool.SetParked("", 0);
    return absl::OkStatus();
  }

  Request MakeRequest() const {
    Request request;
    request.command = options_.command;
    request.path = options_.path;
    return request;
  }

  void Fail(std::string why) {
    ++report_.failed;
    if (report_.first_failure.empty()) report_.first_failure = std::move(why);
  }

  void Record(const absl::StatusOr<Outcome>& outcome) {
    if (!outcome.ok()) return Fail(std::string(Message(outcome.status())));
    latencies_.push_back(outcome->wall_us);
    ++report_.path[std::string(SpawnPathName(outcome->spawn_path))];
    if (report_.fallbacks.empty()) report_.fallbacks = outcome->fallbacks;
    if (!outcome->ok()) Fail(EndText(*outcome));
  }

  absl::Status OneAtATime(Pool& pool) {
    for (std::uint32_t i = 0; i < options_.count; ++i) {
      const std::int64_t start = NowNs();
      Record(pool.Run(MakeRequest()));
      pool_wall_us_ += static_cast<double>(NowNs() - start) / 1000;
      if (options_.floor) BROOD_RETURN_IF_ERROR(Floors(1));
      if (i % 64 == 0) Progress("running", i, options_.count);
    }
    Progress("running", options_.count, options_.count);
    return absl::OkStatus();
  }

  // Before the pool's burst, and after it.
  absl::Status FloorsOfHalf(bool second) {
    if (!options_.floor) return absl::OkStatus();
    // A burst that is all asked for at once is compared with whole bursts, since half of one would
    // have half its queue.
    if (concurrency_ == options_.count) return Floors(options_.count);
    const std::uint32_t half = options_.count / 2;
    return Floors(second ? options_.count - half : half);
  }

  // Keeps `concurrency_` requests under way. Callbacks come from the pool's thread.
  absl::Status Submissions(Pool& pool) {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint32_t done = 0;
    std::atomic<std::uint32_t> submitted{0};
    std::function<void()> submit_next;
    const auto on_outcome = [&](const absl::StatusOr<Outcome>& outcome) {
      if (submitted.load() < options_.count) submit_next();
      const std::lock_guard lock(mutex);
      Record(outcome);
      if (++done == options_.count || done % 64 == 0) changed.notify_one();
    };
    submit_next = [&] {
      const std::uint32_t number = submitted.fetch_add(1);
      if (number >= options_.count) return;
      if (const absl::Status status = pool.Submit(MakeRequest(), on_outcome); !status.ok()) {
        const std::lock_guard lock(mutex);
        Fail(std::string(Message(status)));
        ++done;
        changed.notify_one();
      }
      // From here on only those who wait need workers; more would be made for nobody.
      if (number + 1 + parked_ == options_.count || number + 1 == options_.count) {
        pool.SetParked("", 0);
      }
    };
    const std::int64_t start = NowNs();
    latencies_.reserve(options_.count);
    for (std::uint32_t i = 0; i < concurrency_; ++i) submit_next();
    {
      std::unique_lock lock(mutex);
      while (done < options_.count) {
        changed.wait(lock);
        Progress("running", done, options_.count);
      }
    }
    pool_wall_us_ += static_cast<double>(NowNs() - start) / 1000;
    return absl::OkStatus();
  }

  // `count` bare processes, up to `concurrency_` of them asked for at once. Reaped in the order
  // they were made, as soon as may be.
  absl::Status Floors(std::uint32_t count) {
    struct Flying {
      UniqueFd pidfd;
      std::int64_t start;
    };
    std::deque<Flying> flying;
    // When each process not yet made was asked for, as the pool's requests are: as many at once as
    // may be, then one whenever one has ended.
    std::deque<std::int64_t> asked;
    const auto land = [&]() -> absl::Status {
      const Flying landed = std::move(flying.front());
      flying.pop_front();
      BROOD_ASSIGN_OR_RETURN(const Exit exit, Reap(landed.pidfd.get()));
      if (exit.code != CLD_EXITED || exit.status != 0) {
        return Error(
            absl::StatusCode::kFailedPrecondition,
            "the floor's own run of {} failed ({} {}), so there is nothing to compare with",
            options_.command.argv.front(), exit.code == CLD_EXITED ? "status" : "signal",
            exit.status);
      }
      floors_.push_back(static_cast<double>(exit.reaped_ns - landed.start) / 1000);
      asked.push_back(exit.reaped_ns);
      return absl::OkStatus();
    };
    // Whatever goes wrong, nobody is left unreaped.
    const auto reap_all = absl::MakeCleanup([&] {
      for (const Flying& one : flying) (void)Reap(one.pidfd.get());
    });
    const std::int64_t start = NowNs();
    asked.assign(std::min(count, concurrency_), start);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::int64_t began = asked.front();
      asked.pop_front();
      BROOD_ASSIGN_OR_RETURN(UniqueFd pidfd, floor_->Spawn());
      flying.push_back({std::move(pidfd), began});
      while (!flying.empty() && (flying.size() >= concurrency_ || HasEnded(flying.front().pidfd))) {
        BROOD_RETURN_IF_ERROR(land());
      }
    }
    while (!flying.empty()) BROOD_RETURN_IF_ERROR(land());
    floor_wall_us_ += static_cast<double>(NowNs() - start) / 1000;
    return absl::OkStatus();
  }

  const BurstOptions& options_;
  std::uint32_t concurrency_ = 1;
  std::uint32_t parked_ = 0;
  std::optional<FloorSpawner> floor_;
  std::vector<double> latencies_;
  std::vector<double> floors_;
  double pool_wall_us_ = 0;
  double floor_wall_us_ = 0;
  BurstReport report_;
};

}  // namespace

absl::StatusOr<BurstReport> RunBurst(const BurstOptions& options) { return Burst(options).Run(); }

nlohmann::ordered_json ToJson(const BurstReport& report) {
  const auto rounded = [](double value) { return std::round(value * 100) / 100; };
  const auto ratio = [&](double value, double floor) {
    return floor > 0 ? nlohmann::ordered_json(std::round(value / floor * 1000) / 1000)
                     : nlohmann::ordered_json();
  };
  nlohmann::ordered_json json;
  json["count"] = report.count;
  json["failed"] = report.failed;
  if (!report.first_failure.empty()) json["first_failure"] = report.first_failure;
  json["wall_us"] = rounded(report.wall_us);
  json["rate_per_s"] = rounded(report.rate_per_s);
  json["latency_us"] = {{"p50", rounded(report.latency_us.p50)},
                        {"p90", rounded(report.latency_us.p90)},
                        {"p99", rounded(report.latency_us.p99)},
                        {"max", rounded(report.latency_us.max)}};
  json["floor_us"] = {{"p50", rounded(report.floor_us.p50)}, {"p99", rounded(report.floor_us.p99)}};
  json["floor_rate_per_s"] = rounded(report.floor_rate_per_s);
  json["ratio_to_floor"] = {{"p50", ratio(report.latency_us.p50, report.floor_us.p50)},
                            {"p99", ratio(report.latency_us.p99, report.floor_us.p99)},
                            {"rate", ratio(report.rate_per_s, report.floor_rate_per_s)}};
  json["path"] = report.path;
  json["slots"] = ToJson(report.slots);
  json["fallbacks"] = ToJson(report.fallbacks);
  json["park_us"] = {{"p50", rounded(report.park_us_p50)}};
  json["park_bytes"] = std::round(report.park_bytes);
  json["left_behind"] = {{"processes", report.left_behind.processes},
                         {"cgroups", report.left_behind.cgroups},
                         {"mounts", report.left_behind.mounts},
                         {"fds", report.left_behind.fds}};
  return json;
}

}  // namespace brood
