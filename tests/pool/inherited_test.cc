// SPDX-License-Identifier: Apache-2.0

// What the program around a pool was started with does not reach its workers.
#include "tests/inherited.h"

#include <gtest/gtest.h>

#include <thread>

#include "pool/pool.h"
#include "spawn/base/status.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/slowness.h"

namespace brood {
namespace {

class PoolInheritedTest : public LeavesNothing {};

TEST_F(PoolInheritedTest, AWorkerOfEachPathStartsWithTheDefaults) {
  BROOD_NEEDS_ROOT();
  // A thread, since most of them are a thread's own.
  std::thread([] {
    TakeOddAttributes();
    PoolOptions options;
    options.templates.emplace_back();
    options.templates[0].parked = 2;
    auto pool = Pool::Create(std::move(options));
    ASSERT_TRUE(pool.ok()) << Message(pool.status());
    for (const SpawnPath path : {SpawnPath::kParked, SpawnPath::kZygote, SpawnPath::kCold}) {
      SCOPED_TRACE(SpawnPathName(path));
      Request request;
      request.path = path;
      request.command.argv = {"/bin/sh", "-c", kShowAttributes};
      request.command.env = DefaultEnvironment();
      request.command.stdio.mode = StdioMode::kCapture;
      const auto outcome = (*pool)->Run(std::move(request));
      ASSERT_TRUE(outcome.ok()) << Message(outcome.status());
      EXPECT_EQ(outcome->out, DefaultAttributes()) << outcome->message << outcome->err;
    }
    const absl::Status ended = (*pool)->Shutdown(Patience(std::chrono::seconds(20)));
    EXPECT_TRUE(ended.ok()) << Message(ended);
  }).join();
  std::ofstream("/proc/self/oom_score_adj") << 0;
}

}  // namespace
}  // namespace brood
