// SPDX-License-Identifier: Apache-2.0

// The ring: typed completions, and descriptors closed elsewhere. The same of io_uring and of epoll.
#include "pool/core/ring.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "spawn/base/unique_fd.h"
#include "tests/kernel/machine_state.h"

namespace brood {
namespace {

class RingTest : public LeavesNothing, public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    auto ring = Ring::Create({.entries = 8, .refusal = GetParam()});
    ASSERT_TRUE(ring.ok()) << ring.status();
    ring_ = *std::move(ring);
    if (GetParam() == 0 && ring_->fallback())
      GTEST_SKIP() << "needs io_uring: " << ring_->fallback()->used;
  }
  void TearDown() override {
    ring_.reset();
    LeavesNothing::TearDown();
  }
  std::vector<Completion> Wait(std::optional<std::chrono::nanoseconds> timeout) {
    std::vector<Completion> completions;
    const absl::Status status = ring_->Wait(timeout, completions);
    EXPECT_TRUE(status.ok()) << status;
    return completions;
  }
  std::unique_ptr<Ring> ring_;
};

TEST_P(RingTest, TokensComeBackAsTheyWereGiven) {
  const UniqueFd event(eventfd(1, EFD_CLOEXEC));
  const Token token{Source::kWorkerErr, 0xabcdef, 0xfedcba98};
  ASSERT_TRUE(ring_->AwaitReadable(event.get(), token).ok());
  const auto completions = Wait(std::chrono::seconds(30));
  ASSERT_EQ(completions.size(), 1U);
  EXPECT_EQ(completions[0].token.source, token.source);
  EXPECT_EQ(completions[0].token.generation, token.generation);
  EXPECT_EQ(completions[0].token.index, token.index);
  EXPECT_GT(completions[0].result, 0);
}

TEST_P(RingTest, WhatHasCompletedWakesNobodyAgain) {
  const UniqueFd event(eventfd(1, EFD_CLOEXEC));
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(ring_->AwaitReadable(event.get(), {Source::kWatch, 0, i}).ok());
    ASSERT_EQ(Wait(std::chrono::seconds(30)).size(), 1U);
  }
  // It is readable still, and nobody waits for it: the next sleep is a whole one.
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(Wait(std::chrono::milliseconds(50)).empty());
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(45));
}

TEST_P(RingTest, WaitsAgainWhereNoDescriptorIsLeft) {
  const UniqueFd event(eventfd(1, EFD_CLOEXEC));
  const Token token{Source::kWatch, 0, 7};
  ASSERT_TRUE(ring_->AwaitReadable(event.get(), token).ok());
  rlimit files{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit none{0, files.rlim_max};
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Wait(std::chrono::seconds(30)).size(), 1U);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    const absl::Status again = ring_->AwaitAgain(event.get(), POLLIN, token);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    EXPECT_TRUE(again.ok()) << again;
  }
  ring_->Cancel(token);
  EXPECT_FALSE(Wait(std::chrono::seconds(30)).empty());
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
}

TEST_P(RingTest, WaitingEndsWithTheTimeout) {
  EXPECT_TRUE(Wait(std::chrono::milliseconds(1)).empty());
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
}

TEST_P(RingTest, TakesMoreThanItsEntriesAtOnce) {
  const UniqueFd event(eventfd(1, EFD_CLOEXEC));
  constexpr std::uint32_t kMany = 500;
  for (std::uint32_t i = 0; i < kMany; ++i) {
    ASSERT_TRUE(ring_->AwaitReadable(event.get(), {Source::kWorkerExit, 0, i}).ok());
  }
  std::vector<bool> seen(kMany);
  for (std::uint32_t count = 0; count < kMany;) {
    const auto completions = Wait(std::chrono::seconds(30));
    ASSERT_FALSE(completions.empty());
    for (const Completion& completion : completions) {
      EXPECT_FALSE(seen[completion.token.index]);
      seen[completion.token.index] = true;
      ++count;
    }
  }
}

TEST_P(RingTest, ClosesElsewhereAndTellsNobody) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  ring_->CloseElsewhere(ends[1]);
  ASSERT_TRUE(ring_->FinishCloses().ok());
  char byte = 0;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0) << "the writing end is still open";
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
}

TEST_P(RingTest, HoldsTheOpenFileAndLetsGoOfIt) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  const Token token{Source::kWatch, 1, 2};
  ASSERT_TRUE(ring_->AwaitReadable(reader.get(), token).ok());
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
  reader.reset();
  EXPECT_EQ(write(writer.get(), "x", 1), 1) << "the ring has it open";
  const auto completions = Wait(std::chrono::seconds(30));
  ASSERT_EQ(completions.size(), 1U);
  EXPECT_EQ(completions[0].token.index, 2U);
}

TEST_P(RingTest, CancelledWaitTellsAndLeavesTheOthers) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const Token first{Source::kWatch, 1, 1};
  const Token second{Source::kWatch, 1, 2};
  ASSERT_TRUE(ring_->AwaitReadable(event.get(), first).ok());
  ASSERT_TRUE(ring_->AwaitReadable(event.get(), second).ok());
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
  ring_->Cancel(first);
  std::vector<Completion> completions;
  while (completions.empty()) completions = Wait(std::chrono::seconds(30));
  ASSERT_EQ(completions.size(), 1U);
  EXPECT_EQ(completions[0].token.index, 1U);
  EXPECT_EQ(completions[0].result, -ECANCELED);
  const std::uint64_t one = 1;
  ASSERT_EQ(write(event.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  completions = Wait(std::chrono::seconds(30));
  ASSERT_EQ(completions.size(), 1U);
  EXPECT_EQ(completions[0].token.index, 2U);
  EXPECT_EQ(completions[0].result & POLLIN, POLLIN);
  ring_->Cancel(second);  // has completed: nothing to end
}

TEST_P(RingTest, RegularFilesAreAlwaysReady) {
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  ASSERT_TRUE(ring_->AwaitReadable(file.get(), {Source::kWatch, 0, 7}).ok());
  const auto completions = Wait(std::chrono::seconds(30));
  ASSERT_EQ(completions.size(), 1U);
  EXPECT_EQ(completions[0].token.index, 7U);
  EXPECT_GT(completions[0].result, 0);
}

TEST_P(RingTest, ClosesManyElsewhere) {
  for (int i = 0; i < 300; ++i) {
    ring_->CloseElsewhere(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
    if (i % 50 == 0) Wait(std::chrono::nanoseconds(0));
  }
  ASSERT_TRUE(ring_->FinishCloses().ok());
  EXPECT_EQ(ring_->closing(), 0U);
}

TEST_P(RingTest, TellsWhyItIsNotIoUring) {
  EXPECT_EQ(ring_->fallback().has_value(), GetParam() != 0);
  if (!ring_->fallback()) return;
  EXPECT_EQ(ring_->fallback()->wanted, "io_uring");
  EXPECT_EQ(ring_->fallback()->error, GetParam());
  EXPECT_THAT(ring_->fallback()->used, ::testing::StartsWith("epoll: "));
}

INSTANTIATE_TEST_SUITE_P(Kinds, RingTest, ::testing::Values(0, EPERM, ENOSYS),
                         [](const auto& test) {
                           return test.param == 0       ? "Uring"
                                  : test.param == EPERM ? "EpollForbidden"
                                                        : "EpollMissing";
                         });

}  // namespace
}  // namespace brood
