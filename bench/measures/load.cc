// SPDX-License-Identifier: Apache-2.0

// brood's pool under load: how its latency grows with what is asked of it, how it scales, and what
// its workers hold.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "bench/measures/burst_row.h"
#include "bench/measures/floors.h"
#include "bench/measures/measures.h"
#include "pool/burst/floor.h"
#include "pool/pool.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/outcome.h"

namespace brood::bench {
namespace {

constexpr double kLoadSeconds = 0.6;
constexpr std::uint32_t kLoadParked = 64;

// When each process is asked for, in seconds from the start: a Poisson process, as of many callers
// that know nothing of each other. The same for every row.
std::vector<double> Arrivals(double per_s) {
  std::mt19937 random(1);
  std::exponential_distribution<double> gap(per_s);
  std::vector<double> times;
  for (double at = gap(random); at < kLoadSeconds; at += gap(random)) times.push_back(at);
  return times;
}

// Answers to requests that come on their own schedule, whether or not those before them have been
// answered. A latency counts from when the request should have been made, so that what holds up the
// asking counts, too ("coordinated omission").
class OpenLoop {
 public:
  using Done = std::function<void(const absl::Status&)>;
  using Ask = std::function<absl::Status(Done)>;

  // Blocks until all have been answered. The first error.
  absl::Status Run(double per_s, const Ask& ask, Series& series) {
    const std::vector<double> times = Arrivals(per_s);
    const std::int64_t start = NowNs();
    for (const double at : times) {
      const std::int64_t due = start + static_cast<std::int64_t>(at * 1e9);
      if (const std::int64_t early = due - NowNs(); early > 0) {
        std::this_thread::sleep_for(std::chrono::nanoseconds(early));
      }
      {
        const std::lock_guard lock(mutex_);
        ++open_;
      }
      const absl::Status asked = ask([this, due](const absl::Status& status) {
        const auto us = static_cast<double>(NowNs() - due) / 1e3;
        const std::lock_guard lock(mutex_);
        status_.Update(status);
        latencies_.push_back(us);
        if (--open_ == 0) all_answered_.notify_one();
      });
      if (!asked.ok()) {
        const std::lock_guard lock(mutex_);
        status_.Update(asked);
        --open_;
        break;
      }
    }
    std::unique_lock lock(mutex_);
    all_answered_.wait(lock, [this] { return open_ == 0; });
    BROOD_RETURN_IF_ERROR(status_);
    series["offered_per_s"].push_back(per_s);
    series["served_per_s"].push_back(static_cast<double>(latencies_.size()) /
                                     (static_cast<double>(NowNs() - start) / 1e9));
    series[kLatency] = std::move(latencies_);
    return absl::OkStatus();
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_answered_;
  std::size_t open_ = 0;
  absl::Status status_;
  std::vector<double> latencies_;
};

// How many bare processes the machine can start in a second, one after the other: what offered
// loads are shares of.
absl::StatusOr<double> FloorRate(const Command& command) {
  BROOD_ASSIGN_OR_RETURN(FloorSpawner floor, FloorSpawner::Create(command));
  constexpr int kCount = 200;
  std::vector<double> us;
  for (int i = 0; i < kCount; ++i) {
    const std::int64_t start = NowNs();
    BROOD_RETURN_IF_ERROR(FloorOnce(floor));
    us.push_back(static_cast<double>(NowNs() - start) / 1e3);
  }
  std::nth_element(us.begin(), us.begin() + kCount / 2, us.end());
  return 1e6 / us[kCount / 2];
}

// Bare processes, started by as many threads as there are processors.
class FloorServer {
 public:
  explicit FloorServer(const Command& command) {
    const unsigned count = std::max(1U, std::thread::hardware_concurrency());
    for (unsigned i = 0; i < count; ++i) {
      threads_.emplace_back([this, &command] {
        absl::StatusOr<FloorSpawner> floor = FloorSpawner::Create(command);
        for (;;) {
          OpenLoop::Done done;
          {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
            if (queue_.empty()) return;
            done = std::move(queue_.front());
            queue_.erase(queue_.begin());
          }
          done(floor.ok() ? FloorOnce(*floor) : floor.status());
        }
      });
    }
  }
  ~FloorServer() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  FloorServer(const FloorServer&) = delete;
  FloorServer& operator=(const FloorServer&) = delete;

  absl::Status Ask(OpenLoop::Done done) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(done));
    changed_.notify_one();
    return absl::OkStatus();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<OpenLoop::Done> queue_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

absl::Status CheckOutcome(const absl::StatusOr<Outcome>& outcome) {
  BROOD_RETURN_IF_ERROR(outcome.status());
  if (outcome->ok()) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "{}", EndText(*outcome));
}

absl::Status LoadFloor(const Command& command, double per_s, Series& series) {
  FloorServer server(command);
  return OpenLoop().Run(
      per_s, [&](OpenLoop::Done done) { return server.Ask(std::move(done)); }, series);
}

absl::Status LoadPool(const Command& command, SpawnPath path, double per_s, Series& series) {
  PoolOptions options;
  TemplateOptions& tmpl = options.templates.emplace_back();
  tmpl.parked = path == SpawnPath::kParked ? kLoadParked : 0;
  BROOD_ASSIGN_OR_RETURN(const std::unique_ptr<Pool> pool, Pool::Create(std::move(options)));
  BROOD_RETURN_IF_ERROR(pool->AwaitParked("", path == SpawnPath::kParked ? kLoadParked : 0,
                                          std::chrono::seconds(30)));
  std::atomic<std::uint64_t> wanted_path{0};
  BROOD_RETURN_IF_ERROR(OpenLoop().Run(
      per_s,
      [&](const OpenLoop::Done& done) {
        Request request;
        request.command = command;
        request.path = path;
        // A pool that has run dry is what the curve is to show, not a slower path under its name.
        request.when_empty = WhenEmpty::kWait;
        return pool->Submit(std::move(request),
                            [&wanted_path, path, done](const absl::StatusOr<Outcome>& outcome) {
                              if (outcome.ok() && outcome->spawn_path == path) ++wanted_path;
                              done(CheckOutcome(outcome));
                            });
      },
      series));
  series["path_taken"].push_back(static_cast<double>(wanted_path.load()) /
                                 static_cast<double>(series[kLatency].size()));
  return pool->Shutdown();
}

Row LoadRow(const Command& command, const std::string& name, double offered,
            std::function<absl::Status(double per_s, Series& series)> load) {
  Row row;
  row.name = fmt::format("load/{}/offered={}", name, offered);
  row.parameters = {{"offered", offered}};
  row.iterations = 1;
  row.warm_ups = 0;
  row.every = 3;
  row.leaves_debt = name != "floor";
  if (row.leaves_debt) row.floor = fmt::format("load/floor/offered={}", offered);
  row.run = [&command, offered, load = std::move(load)](benchmark::State& state, Samples& samples) {
    const absl::StatusOr<double> rate = FloorRate(command);
    if (!rate.ok()) return Fail(state, rate.status());
    Series series;
    if (const absl::Status status = load(offered * *rate, series); !status.ok()) {
      return Fail(state, status);
    }
    samples.Take(state, std::move(series));
  };
  return row;
}

Spec WithHostNetwork() {
  Spec spec;
  spec.ns(NamespaceKind::kNet).mode = NamespaceMode::kHost;
  return spec;
}

}  // namespace

std::vector<Row> LoadRows(const Setup& setup) {
  const Command& command = setup.payload;
  std::vector<Row> rows;
  for (const double offered : {0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4}) {
    rows.push_back(LoadRow(command, "floor", offered, [&command](double per_s, Series& series) {
      return LoadFloor(command, per_s, series);
    }));
    for (const SpawnPath path : {SpawnPath::kCold, SpawnPath::kZygote, SpawnPath::kParked}) {
      rows.push_back(LoadRow(command, std::string(SpawnPathName(path)), offered,
                             [&command, path](double per_s, Series& series) {
                               return LoadPool(command, path, per_s, series);
                             }));
    }
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.name.substr(0, a.name.find('=')) < b.name.substr(0, b.name.find('='));
  });
  return rows;
}

std::vector<Row> ScaleRows(const Setup& setup) {
  BurstOptions base;
  base.command = setup.payload;
  base.floor = false;
  std::vector<Row> rows;
  for (const std::uint32_t zygotes : {1U, 2U, 4U}) {
    for (const std::uint32_t concurrency : {1U, 2U, 4U, 8U}) {
      BurstOptions options = base;
      options.path = SpawnPath::kZygote;
      options.count = 200;
      options.zygotes = zygotes;
      options.concurrency = concurrency;
      rows.push_back(
          BurstRow(fmt::format("scale/zygotes={}/concurrency={}", zygotes, concurrency), options));
      rows.back().parameters = {{"zygotes", zygotes}, {"concurrency", concurrency}};
    }
  }
  // More than are parked: workers are made at the rate they are used.
  for (const bool net : {true, false}) {
    BurstOptions options = base;
    options.count = 1000;
    options.concurrency = 8;
    options.parked = kLoadParked;
    options.floor = true;
    if (!net) options.spec = WithHostNetwork();
    rows.push_back(BurstRow(net ? "scale/sustained" : "scale/sustained-host-net", options));
    // The same without namespaces that are used again, and so what these are worth.
    options.spec.reuse = Reuse::kNone;
    rows.push_back(
        BurstRow(net ? "scale/sustained-fresh" : "scale/sustained-host-net-fresh", options));
  }
  for (const std::uint32_t parked : {16U, 64U, 256U}) {
    BurstOptions options = base;
    options.count = 1000;
    options.concurrency = 8;
    options.parked = parked;
    rows.push_back(BurstRow(fmt::format("scale/parked={}", parked), options));
    rows.back().parameters = {{"parked", parked}};
  }
  for (const bool net : {true, false}) {
    for (const std::uint32_t count : {250U, 1000U, 4000U}) {
      BurstOptions options = base;
      options.count = count;
      options.concurrency = 4;
      options.parked = count;
      if (!net) options.spec = WithHostNetwork();
      rows.push_back(
          BurstRow(fmt::format("memory/{}parked={}", net ? "" : "host-net/", count), options));
      rows.back().parameters = {{"parked", count}};
      rows.back().note =
          "memory of one parked worker: the machine's available memory before and "
          "after parking them all, by their number";
    }
  }
  return rows;
}

}  // namespace brood::bench
