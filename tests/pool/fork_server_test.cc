// SPDX-License-Identifier: Apache-2.0

// Forked functions below HTTP: each step of a call that can fail, and what its outcome tells.
#include "pool/functions/fork_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/launch/forked.h"
#include "spawn/limits/advice.h"
#include "tests/kernel/machine_state.h"
#include "tests/slowness.h"

namespace brood {
namespace {

using std::chrono::seconds;

// An errno that nothing here returns by itself.
constexpr int kInjected = EXDEV;

class ForkServerTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    TemplateOptions tmpl;
    tmpl.name = "t";
    tmpl.parked = 0;
    PoolOptions options;
    options.templates.push_back(std::move(tmpl));
    auto pool = Pool::Create(std::move(options));
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
    timers_ = std::make_unique<Timers>(*pool_);
    ASSERT_TRUE(InPool([&] { return timers_->Open(); }).ok());
    function_.name = "cat";
    function_.template_name = "t";
    function_.command.argv = {"/bin/cat"};
    function_.command.env = DefaultEnvironment();
    function_.mode = FunctionMode::kForked;
    function_.spec = Spec();
  }
  void TearDown() override {
    if (pool_) {
      (void)InPool([&] {
        timers_->Close();
        return absl::OkStatus();
      });
      const absl::Status status = pool_->Shutdown(Patience(seconds(20)));
      EXPECT_TRUE(status.ok()) << status;
      timers_.reset();  // and what still waited in it
      pool_.reset();
    }
    LeavesNothing::TearDown();
  }

  absl::Status InPool(const std::function<absl::Status()>& task) {
    std::promise<absl::Status> done;
    EXPECT_TRUE(pool_->Post([&] { done.set_value(task()); }));
    return done.get_future().get();
  }

  // One call, without a body, of a process of its own; why there was no process.
  absl::StatusOr<Outcome> Call() {
    std::promise<absl::StatusOr<Outcome>> ended;
    std::shared_ptr<ForkServer> server;
    std::shared_ptr<FunctionWorker> worker;
    ForkServer::Events events;
    events.ready = [&] {
      auto forked = server->Fork();
      if (!forked.ok()) return ended.set_value(forked.status());
      worker = *std::move(forked);
      worker->in.reset();
      worker->on_ended = [&] { ended.set_value(*worker->outcome); };
    };
    events.ended = [&](std::string_view why, std::string_view) {
      if (!worker) ended.set_value(Error(absl::StatusCode::kInternal, "{}", why));
    };
    const absl::Status started = InPool([&] {
      auto made = ForkServer::Start(*pool_, *timers_, function_, std::move(events));
      if (!made.ok()) return made.status();
      server = *std::move(made);
      return absl::OkStatus();
    });
    if (!started.ok()) return started;
    absl::StatusOr<Outcome> outcome = ended.get_future().get();
    (void)InPool([&] {
      server->Retire();
      server.reset();
      worker.reset();
      return absl::OkStatus();
    });
    return outcome;
  }

  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Timers> timers_;
  FunctionOptions function_;
};

TEST_F(ForkServerTest, ACallTellsHowItEndedAndWhatItUsed) {
  const auto outcome = Call();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->end, End::kExited);
  EXPECT_EQ(outcome->exit_code, 0);
  EXPECT_EQ(outcome->spawn_path, SpawnPath::kForked);
  EXPECT_EQ(outcome->inside_pid, 1);
  EXPECT_GT(outcome->wall_us, 0);
  EXPECT_TRUE(outcome->cpu_us);
}

TEST_F(ForkServerTest, EveryStepOfACallReportsItself) {
  const auto specs = SplitForked(*function_.spec);
  ASSERT_TRUE(specs.ok()) << specs.status();
  const auto blueprint = Blueprint::Make(specs->call, PlanKind::kForked);
  ASSERT_TRUE(blueprint.ok()) << blueprint.status();
  const Plan& plan = blueprint->plan();
  for (std::uint32_t i = 0; i <= plan.worker.count; ++i) {
    const bool clone = i == plan.worker.count;
    const Step step = clone ? Step::kCloneWorker : plan.ops(plan.worker)[i].step;
    SCOPED_TRACE(fmt::format("operation {}, {}", i, StepName(step)));
    function_.fault = {.step = step, .error = kInjected, .index = clone ? 0 : static_cast<int>(i)};
    const auto outcome = Call();
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->end, End::kSetupFailed);
    EXPECT_EQ(outcome->failure.step, step);
    EXPECT_EQ(outcome->failure.error, kInjected);
    EXPECT_NE(outcome->message.find("EXDEV"), std::string::npos) << outcome->message;
  }
}

TEST_F(ForkServerTest, AProcessThatCannotStartTellsWhy) {
  function_.command.argv = {"/no/such/program"};
  const auto outcome = Call();
  ASSERT_FALSE(outcome.ok());
  EXPECT_NE(Message(outcome.status()).find("no such file inside the root"), std::string_view::npos)
      << outcome.status();
}

}  // namespace
}  // namespace brood
