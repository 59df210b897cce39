// SPDX-License-Identifier: Apache-2.0

// The parts of the pool's thread, each by itself: no loop, no other thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pool/core/dispatch.h"
#include "pool/core/fd_watches.h"
#include "pool/core/pool_state.h"
#include "pool/core/refill.h"
#include "pool/core/supervise.h"
#include "pool/core/templates.h"
#include "pool/core/worker_records.h"
#include "spawn/base/clock.h"
#include "spawn/host/without.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/pool/pool_test.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class ReactorPartsTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    auto ring = Ring::Create({.refusal = RingRefusal()});
    ASSERT_TRUE(ring.ok()) << ring.status();
    pool_->ring = *std::move(ring);
    auto fds = LauncherFds::Open();
    ASSERT_TRUE(fds.ok()) << fds.status();
    pool_->launcher_fds = *std::move(fds);
    ASSERT_TRUE(dispatcher_->PrepareLimits().ok());
  }
  void TearDown() override {
    for (const auto& keeper : pool_->keepers) {
      if (keeper->zygote) keeper->zygote->Stop();
    }
    for (const Worker& worker : pool_->workers) {
      if (worker.phase != WorkerPhase::kFree && !worker.cold) supervisor_->EndUnseen(worker);
    }
    for (const auto& keeper : pool_->keepers) records_->EndKeeper(*keeper);
    records_->slots().ReapCloners();
    for (Worker& worker : pool_->workers) worker.kept = {};
    records_->CloseDeferred();
    EXPECT_TRUE(pool_->ring->FinishCloses().ok());
    pool_->keepers.clear();
    pool_.reset();
    LeavesNothing::TearDown();
  }

  // A template without a cgroup, and without a zygote unless it is asked for.
  Template& AddTemplate(std::uint32_t zygotes = 0, std::uint32_t parked = 0) {
    TemplateOptions options;
    options.name = "plain";
    options.spec.use_cgroup = false;
    options.parked = parked;
    options.max_workers = 8;
    options.zygotes = zygotes;
    const absl::Status added = templates_->Add(options);
    EXPECT_TRUE(added.ok()) << added;
    return pool_->templates.back();
  }

  // What becomes of the request with this number is kept in `answers_`.
  std::unique_ptr<ActiveRequest> NewRequest(std::uint64_t id, SpawnPath path) {
    auto active = std::make_unique<ActiveRequest>();
    active->id = id;
    active->request.command.argv = {"/bin/sh", "-c", "exit 7"};
    active->request.path = path;
    active->submitted_ns = NowNs();
    active->callback = [this](absl::StatusOr<Outcome> outcome) {
      answers_.push_back(std::move(outcome));
    };
    return active;
  }

  // Hands on what the ring reports until `done`.
  void HandleUntil(const std::function<bool()>& done) {
    const std::int64_t end = NowNs() + std::chrono::nanoseconds(kHang).count();
    while (!done()) {
      ASSERT_LT(NowNs(), end) << "nothing came of it";
      std::vector<Completion> completions;
      ASSERT_TRUE(pool_->ring->Wait(std::chrono::milliseconds(50), completions).ok());
      for (const Completion& completion : completions) {
        const std::uint32_t index = completion.token.index;
        if (completion.token.source == Source::kZygoteNotice) refill_->OnZygoteNotice(index);
        if (completion.token.source == Source::kWorkerExit) supervisor_->OnExit(index);
      }
    }
  }

  std::unique_ptr<PoolState> pool_ = std::make_unique<PoolState>();
  std::unique_ptr<WorkerRecords> records_ = std::make_unique<WorkerRecords>(*pool_);
  std::unique_ptr<Supervisor> supervisor_ = std::make_unique<Supervisor>(*pool_, *records_);
  std::unique_ptr<Refill> refill_ = std::make_unique<Refill>(*pool_, *records_, *supervisor_);
  std::unique_ptr<Dispatcher> dispatcher_ =
      std::make_unique<Dispatcher>(*pool_, *records_, *supervisor_, *refill_);
  std::unique_ptr<Templates> templates_ = std::make_unique<Templates>(*pool_, *records_, *refill_);
  std::vector<absl::StatusOr<Outcome>> answers_;
};

TEST_F(ReactorPartsTest, ACompletionForTheLastUseOfARecordIsStale) {
  AddTemplate();
  const std::uint32_t first = records_->Take();
  const Token token = pool_->TokenOf(Source::kWorkerExit, first);
  EXPECT_TRUE(pool_->IsCurrent(token));
  records_->Drop(first);
  EXPECT_EQ(records_->Take(), first) << "a record is used again";
  EXPECT_FALSE(pool_->IsCurrent(token));
  EXPECT_NE(records_->Take(), first);
}

TEST_F(ReactorPartsTest, AWatchEndsWhereItsOwnCallbackEndsIt) {
  FdWatches watches(*pool_->ring);
  const UniqueFd event(eventfd(1, EFD_CLOEXEC));
  int calls = 0;
  Pool::WatchId id = 0;
  const auto watched = watches.Watch(event.get(), POLLIN, [&](short events) {
    EXPECT_TRUE((events & POLLIN) != 0);
    if (++calls == 3) watches.Unwatch(id);
  });
  ASSERT_TRUE(watched.ok()) << watched.status();
  id = *watched;
  for (int round = 0; round < 6; ++round) {
    std::vector<Completion> completions;
    ASSERT_TRUE(pool_->ring->Wait(std::chrono::milliseconds(20), completions).ok());
    for (const Completion& completion : completions) {
      if (completion.token.source == Source::kWatch) watches.OnReady(completion);
    }
  }
  EXPECT_EQ(calls, 3);
  watches.Unwatch(id);  // over already
  const auto next = watches.Watch(event.get(), POLLIN, [](short) {});
  ASSERT_TRUE(next.ok());
  EXPECT_NE(*next, id) << "an old number must not end a new watch";
  watches.Unwatch(*next);
}

TEST_F(ReactorPartsTest, ARequestIsAnsweredAtOnceOrStandsInAQueue) {
  Template& tmpl = AddTemplate();
  pool_->options.max_queue = 2;

  auto unknown = NewRequest(1, SpawnPath::kParked);
  unknown->request.template_name = "other";
  dispatcher_->Admit(std::move(unknown));
  auto impatient = NewRequest(2, SpawnPath::kParked);
  impatient->request.when_empty = WhenEmpty::kRefuse;
  dispatcher_->Admit(std::move(impatient));
  ASSERT_EQ(answers_.size(), 2U);
  EXPECT_TRUE(absl::IsNotFound(answers_[0].status()));
  EXPECT_TRUE(absl::IsResourceExhausted(answers_[1].status()));

  auto flexible = NewRequest(3, SpawnPath::kParked);
  flexible->request.when_empty = WhenEmpty::kSlower;
  dispatcher_->Admit(std::move(flexible));
  ASSERT_EQ(tmpl.direct.size(), 1U);
  EXPECT_EQ(tmpl.direct.front()->fallbacks.size(), 1U) << "the outcome has to say so";
  dispatcher_->Admit(NewRequest(4, SpawnPath::kParked));
  EXPECT_EQ(tmpl.waiting.size(), 1U);
  dispatcher_->Admit(NewRequest(5, SpawnPath::kParked));
  ASSERT_EQ(answers_.size(), 3U);
  EXPECT_THAT(Sentence(answers_[2].status()), HasSubstr("2 requests wait"));

  EXPECT_TRUE(dispatcher_->Cancel(4));
  EXPECT_FALSE(dispatcher_->Cancel(4));
  dispatcher_->RefuseQueued();
  ASSERT_EQ(answers_.size(), 5U);
  EXPECT_TRUE(absl::IsCancelled(answers_[3].status()));
  EXPECT_TRUE(absl::IsUnavailable(answers_[4].status()));
}

TEST_F(ReactorPartsTest, ASupervisorTellsHowAColdWorkerEnded) {
  AddTemplate();
  dispatcher_->Admit(NewRequest(1, SpawnPath::kCold));
  dispatcher_->Run();
  EXPECT_EQ(supervisor_->running(), 1U);
  HandleUntil([&] { return !answers_.empty(); });
  ASSERT_TRUE(answers_[0].ok()) << answers_[0].status();
  EXPECT_EQ(answers_[0]->end, End::kExited) << answers_[0]->message;
  EXPECT_EQ(answers_[0]->exit_code, 7);
  EXPECT_EQ(answers_[0]->id, 1U);
  EXPECT_EQ(supervisor_->running(), 0U);
  EXPECT_EQ(pool_->templates[0].alive, 0U);
}

TEST_F(ReactorPartsTest, ADeadlineEndsAWorker) {
  AddTemplate();
  auto endless = NewRequest(1, SpawnPath::kCold);
  endless->request.command.argv = {"/bin/sleep", "1000"};
  endless->request.command.timeout = std::chrono::hours(1);
  dispatcher_->Admit(std::move(endless));
  dispatcher_->Run();
  const auto deadline = supervisor_->next_deadline_ns();
  ASSERT_TRUE(deadline.has_value());
  supervisor_->EndOverdue(*deadline - 1);
  EXPECT_TRUE(supervisor_->next_deadline_ns().has_value());
  supervisor_->EndOverdue(*deadline);
  HandleUntil([&] { return !answers_.empty(); });
  ASSERT_TRUE(answers_[0].ok()) << answers_[0].status();
  EXPECT_EQ(answers_[0]->end, End::kTimeout);
}

TEST_F(ReactorPartsTest, RefillParksWorkersAndMissesThoseThatWereKilled) {
  Template& tmpl = AddTemplate(/*zygotes=*/1, /*parked=*/3);
  refill_->Fill(0);
  EXPECT_EQ(tmpl.ordered, 3U);
  HandleUntil([&] { return tmpl.idle->size() == 3; });
  refill_->Fill(0);
  EXPECT_EQ(tmpl.ordered, 0U) << "there are enough";
  EXPECT_FALSE(refill_->NextFillNs(tmpl).has_value());

  const int pid = pool_->BoxOf(pool_->workers[0]).pid;
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  while (!HasEnded(pid)) usleep(1000);
  refill_->Tick();
  EXPECT_EQ(tmpl.idle->size(), 2U);
  EXPECT_EQ(pool_->totals.lost_workers, 1U);
  EXPECT_TRUE(refill_->NextFillNs(tmpl).has_value()) << "another one has to be made";
}

TEST_F(ReactorPartsTest, IdsOfIdleSlotsGoToARequestThatFindsNone) {
  BROOD_NEEDS_ROOT();
  if (Without(Way::kSlots)) GTEST_SKIP() << "needs slots, which BROOD_WITHOUT takes away";
  AddTemplate(/*zygotes=*/1);
  dispatcher_->Admit(NewRequest(1, SpawnPath::kZygote));
  dispatcher_->Run();
  HandleUntil([&] { return answers_.size() == 1; });
  ASSERT_TRUE(pool_->keepers[0]->slots[0].cloner != 0);

  AddTemplate(/*zygotes=*/1).options.name = "other";
  std::vector<std::uint32_t> all;
  for (auto ids = pool_->resources.ids.Take(); ids.ok(); ids = pool_->resources.ids.Take()) {
    all.push_back(*ids);
  }
  auto request = NewRequest(2, SpawnPath::kZygote);
  request->request.template_name = "other";
  dispatcher_->Admit(std::move(request));
  dispatcher_->Run();
  EXPECT_EQ(answers_.size(), 1U) << answers_.back().status();
  dispatcher_->Run();
  HandleUntil([&] { return answers_.size() == 2; });
  EXPECT_TRUE(answers_[1].ok()) << answers_[1].status();
  EXPECT_EQ(pool_->keepers[0]->slots[0].cloner, 0);
  for (const std::uint32_t ids : all) pool_->resources.ids.Return(ids);
}

TEST_F(ReactorPartsTest, NamespacesThatNobodyMayUseAgainAreNotKeptUntilTheNextOrder) {
  if (Without(Way::kSlots)) GTEST_SKIP() << "needs slots, which BROOD_WITHOUT takes away";
  AddTemplate(/*zygotes=*/1);
  auto fresh = NewRequest(1, SpawnPath::kZygote);
  fresh->request.fresh = true;
  dispatcher_->Admit(std::move(fresh));
  dispatcher_->Run();
  HandleUntil([&] { return !answers_.empty(); });
  EXPECT_EQ(pool_->keepers[0]->slots[0].cloner, 0);
  refill_->Tick();
  EXPECT_TRUE(pool_->keepers[0]->unsent.empty());
}

TEST_F(ReactorPartsTest, ARequestWhoseZygoteDiesIsPutBackIntoItsQueue) {
  Template& tmpl = AddTemplate(/*zygotes=*/1);
  const ZygoteKeeper& keeper = *pool_->keepers[0];
  ASSERT_EQ(kill(keeper.zygote->pid(), SIGSTOP), 0);  // takes no order
  std::unique_ptr<ActiveRequest> request = NewRequest(1, SpawnPath::kZygote);
  ASSERT_TRUE(refill_->Order(0, request));
  EXPECT_EQ(supervisor_->running(), 1U);
  refill_->OnZygoteDeath(0);
  EXPECT_EQ(supervisor_->running(), 0U);
  ASSERT_EQ(tmpl.direct.size(), 1U);
  EXPECT_EQ(pool_->totals.zygotes_replaced, 1U);
  dispatcher_->Run();  // by the next zygote
  HandleUntil([&] { return !answers_.empty(); });
  ASSERT_TRUE(answers_[0].ok()) << answers_[0].status();
  EXPECT_EQ(answers_[0]->exit_code, 7);
}

}  // namespace
}  // namespace brood
