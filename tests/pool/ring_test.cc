// The ring: typed completions, and descriptors closed elsewhere.
#include "pool/ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "spawn/unique_fd.h"
#include "tests/kernel/machine_state.h"

namespace brood {
namespace {

class RingTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    auto ring = Ring::Create(8);
    if (!ring.ok()) GTEST_SKIP() << "needs io_uring: " << ring.status();
    ring_.emplace(*std::move(ring));
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
  std::optional<Ring> ring_;
};

TEST_F(RingTest, TokensComeBackAsTheyWereGiven) {
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

TEST_F(RingTest, WaitingEndsWithTheTimeout) {
  EXPECT_TRUE(Wait(std::chrono::milliseconds(1)).empty());
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
}

TEST_F(RingTest, TakesMoreThanItsEntriesAtOnce) {
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

TEST_F(RingTest, ClosesElsewhereAndTellsNobody) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  ring_->CloseElsewhere(ends[1]);
  ASSERT_TRUE(ring_->FinishCloses().ok());
  char byte = 0;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0) << "the writing end is still open";
  EXPECT_TRUE(Wait(std::chrono::nanoseconds(0)).empty());
}

}  // namespace
}  // namespace brood
