// SPDX-License-Identifier: Apache-2.0

// A pool for a test, and the machine compared with before.
#pragma once

#include <gtest/gtest.h>

#include <latch>
#include <mutex>

#include "pool/pool.h"
#include "spawn/base/status.h"
#include "tests/kernel/machine_state.h"
#include "tests/pool/requests.h"
#include "tests/slowness.h"

namespace brood {

// BROOD_TEST_RING_REFUSAL: io_uring is taken to be refused with this errno.
inline int RingRefusal() {
  const char* const error = std::getenv("BROOD_TEST_RING_REFUSAL");
  return error == nullptr ? 0 : std::atoi(error);
}

inline std::string Sentence(const absl::Status& status) { return std::string(Message(status)); }

class PoolTest : public LeavesNothing {
 protected:
  void SetUp() override { LeavesNothing::SetUp(); }
  void TearDown() override {
    if (pool_) {
      const absl::Status status = pool_->Shutdown(Patience(std::chrono::seconds(20)));
      EXPECT_TRUE(status.ok()) << status;
      pool_.reset();
    }
    LeavesNothing::TearDown();
  }

  void Start(std::uint32_t parked, TemplateOptions tmpl = {}) {
    tmpl.parked = parked;
    PoolOptions options;
    options.ring_refusal = RingRefusal();
    options.templates.push_back(std::move(tmpl));
    auto pool = Pool::Create(std::move(options));
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  void AwaitParked(std::uint32_t count) {
    const absl::Status status = pool_->AwaitParked("", count, kHang);
    ASSERT_TRUE(status.ok()) << status;
  }

  Outcome Run(Request request) {
    absl::StatusOr<Outcome> outcome = pool_->Run(std::move(request));
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() ? *std::move(outcome) : Outcome{};
  }

  // Submits `count` of them and waits for all outcomes.
  std::vector<Outcome> RunMany(std::uint32_t count, const Request& request,
                               const std::function<void()>& meanwhile = {}) {
    std::mutex mutex;
    std::vector<Outcome> outcomes;
    std::latch done(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      const absl::Status status = pool_->Submit(request, [&](absl::StatusOr<Outcome> outcome) {
        {
          const std::lock_guard lock(mutex);
          EXPECT_TRUE(outcome.ok()) << outcome.status();
          if (outcome.ok()) outcomes.push_back(*std::move(outcome));
        }
        done.count_down();
      });
      EXPECT_TRUE(status.ok()) << status;
      if (!status.ok()) done.count_down();
    }
    if (meanwhile) meanwhile();
    done.wait();
    return outcomes;
  }

  std::unique_ptr<Pool> pool_;
};

}  // namespace brood
