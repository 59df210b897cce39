// SPDX-License-Identifier: Apache-2.0

// Fifty workers that answer, and one beside them that takes all it can get: what its limit leaves
// of their latency. The figures are printed; what is demanded is only that they go on.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pool/pool.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/needs_limits.h"
#include "tests/pool/requests.h"
#include "tests/slowness.h"

namespace brood {
namespace {

using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr int kNeighbours = 50;
constexpr int kAnswers = 40 * kNeighbours;  // at least, for a median of them

struct Latency {
  double p50_us = 0;
  double p99_us = 0;
};

Latency LatencyOf(std::vector<double> all) {
  std::sort(all.begin(), all.end());
  return {all[all.size() / 2], all[all.size() * 99 / 100]};
}

// One that sends back what it is sent.
class Neighbour {
 public:
  explicit Neighbour(Pool& pool) {
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    if (pipe2(to.data(), O_CLOEXEC) != 0 || pipe2(from.data(), O_CLOEXEC) != 0) {
      ADD_FAILURE() << "no pipes";
      return;
    }
    const UniqueFd in(to[0]);
    const UniqueFd out(from[1]);
    to_.reset(to[1]);
    from_.reset(from[0]);
    Request request;
    request.template_name = "neighbours";
    request.command.argv = {"/bin/cat"};
    request.command.env = DefaultEnvironment();
    request.command.stdio.mode = StdioMode::kFds;
    request.command.stdio.fds = {in.get(), out.get(), out.get()};
    const auto ended = std::make_shared<std::promise<bool>>();
    ended_ = ended->get_future();
    const auto started = std::make_shared<std::promise<void>>();
    request.on_started = [started](const Started&) { started->set_value(); };
    const absl::Status submitted =
        pool.Submit(std::move(request), [ended](const absl::StatusOr<Outcome>& outcome) {
          ended->set_value(outcome.ok() && outcome->ok());
        });
    EXPECT_TRUE(submitted.ok()) << submitted;
    // Its pipes have been handed over when it has started.
    EXPECT_EQ(started->get_future().wait_for(kHang), std::future_status::ready);
  }
  // Its end of file is the end of it.
  ~Neighbour() {
    to_.reset();
    EXPECT_EQ(ended_.wait_for(kHang), std::future_status::ready);
    EXPECT_TRUE(ended_.get()) << "a neighbour came to harm";
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

  // Microseconds until the answer is there; 0: it did not come.
  double Ask() const {
    const auto since = Clock::now();
    char byte = 'x';
    pollfd answer{from_.get(), POLLIN, 0};
    if (write(to_.get(), &byte, 1) != 1 ||
        poll(&answer, 1, static_cast<int>(kHang.count() * 1000)) != 1 ||
        read(from_.get(), &byte, 1) != 1) {
      return 0;
    }
    return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
  }

 private:
  UniqueFd to_;
  UniqueFd from_;
  std::future<bool> ended_;
};

struct Hog {
  const char* name;
  Spec spec;
  const char* script;  // takes what it can get, for as long as it is let
};

std::vector<Hog> Hogs() {
  std::vector<Hog> hogs(4);
  hogs[0] = {"fork bomb", {}, "bomb() { bomb | bomb & bomb; }; bomb 2>/dev/null"};
  hogs[0].spec.limits.pids = 24;
  hogs[1] = {"memory hog", {}, "head -c 200m /dev/zero | tail"};
  hogs[1].spec.limits.memory_bytes = 32 << 20;
  hogs[2] = {"cpu hog", {}, "while :; do :; done"};
  hogs[2].spec.limits.cpus = 0.2;
  hogs[3] = {"tmpfs filler", {}, "while :; do head -c 64m /dev/zero >/tmp/fill; done 2>/dev/null"};
  hogs[3].spec.tmp_bytes = 8 << 20;
  return hogs;
}

class NeighbourSlowTest : public LeavesNothing, public ::testing::WithParamInterface<Hog> {};

std::string NameOf(const ::testing::TestParamInfo<Hog>& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Beside, NeighbourSlowTest, ::testing::ValuesIn(Hogs()), NameOf);

TEST_P(NeighbourSlowTest, FiftyOthersGoOnAnswering) {
  BROOD_NEEDS_ROOT();
  const Hog& hog = GetParam();
  BROOD_NEEDS_LIMITS(hog.spec.limits);
  PoolOptions options;
  options.templates.push_back({.name = "limited", .spec = hog.spec, .parked = 1, .fault = {}});
  options.templates.push_back({.name = "neighbours", .spec = {}, .parked = 4, .fault = {}});
  auto made = Pool::Create(std::move(options));
  ASSERT_TRUE(made.ok()) << made.status();
  const std::unique_ptr<Pool> pool = *std::move(made);
  ASSERT_TRUE(pool->AwaitParked("limited", 1, kHang).ok());
  {
    std::vector<std::unique_ptr<Neighbour>> neighbours;
    while (neighbours.size() < kNeighbours)
      neighbours.push_back(std::make_unique<Neighbour>(*pool));
    const auto ask_all = [&](std::vector<double>& took) {
      for (const auto& each : neighbours) {
        took.push_back(each->Ask());
        ASSERT_GT(took.back(), 0) << "no answer";
      }
    };
    std::vector<double> alone;
    for (int i = 0; i < kAnswers / kNeighbours + 2; ++i) ask_all(alone);
    alone.erase(alone.begin(), alone.begin() + std::ptrdiff_t{2} * kNeighbours);

    // One hog after the other, as often as it takes.
    std::vector<double> beside;
    while (beside.size() < kAnswers) {
      Request request;
      request.template_name = "limited";
      request.command.argv = {"/bin/sh", "-c", hog.script};
      request.command.env = DefaultEnvironment();
      request.command.stdio.mode = StdioMode::kNull;
      request.command.timeout = Patience(seconds(2));
      const auto running = std::make_shared<std::atomic<bool>>(false);
      const auto ended = std::make_shared<std::promise<absl::StatusOr<Outcome>>>();
      request.on_started = [running](const Started&) { *running = true; };
      auto outcome = ended->get_future();
      ASSERT_TRUE(pool->Submit(std::move(request),
                               [running, ended](auto result) {
                                 *running = false;
                                 ended->set_value(std::move(result));
                               })
                      .ok());
      while (outcome.wait_for(seconds(0)) != std::future_status::ready) {
        if (*running) ask_all(beside);
      }
      const absl::StatusOr<Outcome> result = outcome.get();
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_FALSE(result->ok()) << "it was to be stopped";
    }
    const Latency before = LatencyOf(std::move(alone));
    const Latency during = LatencyOf(std::move(beside));
    fmt::print(
        "beside a {}: p50 {:.2f} times (p99 {:.2f} times) that of fifty alone, {:.0f} us "
        "(p99 {:.0f} us)\n",
        hog.name, during.p50_us / before.p50_us, during.p99_us / before.p99_us, before.p50_us,
        before.p99_us);
    EXPECT_LT(during.p50_us, 20 * before.p50_us);
  }
  EXPECT_TRUE(pool->Shutdown(kHang).ok());
}

}  // namespace
}  // namespace brood
