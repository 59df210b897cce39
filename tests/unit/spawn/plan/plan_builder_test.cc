// SPDX-License-Identifier: Apache-2.0

// Plans as one block of plain data.
#include "spawn/plan/plan_builder.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <ostream>
#include <vector>

#include "spawn/child/plan.h"
#include "spawn/host/without.h"
#include "spawn/launch/forked.h"
#include "spawn/plan/blueprint.h"
#include "tests/unit/spawn/plan/blueprint_test.h"

namespace brood {
namespace {

// A block moved to another address, with nothing of the old one left to point to.
class Moved {
 public:
  explicit Moved(std::vector<char> block) : memory_(block.size() / 8 + 1) {
    std::memcpy(memory_.data(), block.data(), block.size());
  }
  const Plan& plan() const { return *reinterpret_cast<const Plan*>(memory_.data()); }

 private:
  std::vector<std::uint64_t> memory_;
};

TEST(PlanBuilderTest, BuildsAnEmptyPlan) {
  const Moved moved(PlanBuilder().Build({}, {}));
  const Plan& plan = moved.plan();
  EXPECT_GE(plan.bytes, sizeof(Plan));
  for (const OpList& list : {plan.tmpl, plan.home, plan.copies, plan.worker}) {
    EXPECT_EQ(list.count, 0U);
    ExpectInside(plan, list);
  }
  EXPECT_EQ(plan.seccomp_count, 0U);
  EXPECT_EQ(plan.fail_error, 0);
}

TEST(PlanBuilderTest, KeepsListsTextsNumbersAndFilter) {
  PlanBuilder builder;
  builder.Add(PlanBuilder::kTmpl, OpCode::kMount, Step::kMountTmpfs, {"tmpfs", "/mnt", "size=1m"},
              6, 9, 3);
  builder.Add(PlanBuilder::kHome, OpCode::kEnterRoot, Step::kEnterRoot, {"/home"});
  builder.Add(PlanBuilder::kCopies, OpCode::kBindPath, Step::kCopyTree, {"/"});
  builder.Add(PlanBuilder::kWorker, OpCode::kMakeSymlink, Step::kMakeSymlink, {"", "target"});
  builder.Add(PlanBuilder::kWorker, OpCode::kLoopback, Step::kLoopback);
  builder.Add(PlanBuilder::kWorker, OpCode::kRlimit, Step::kRlimit, {}, UINT64_MAX, 1, 15);
  EXPECT_EQ(builder.size(PlanBuilder::kWorker), 3U);
  EXPECT_EQ(builder.size(PlanBuilder::kTmpl), 1U);

  Plan header;
  header.clone_flags = 0x1234;
  header.tree_count = 5;
  header.share_memory = 1;
  const std::vector<sock_filter> filter = {{6, 0, 0, 0x7fff0000}, {0x15, 1, 2, 77}};
  const Moved moved(builder.Build(header, filter));
  const Plan& plan = moved.plan();

  EXPECT_EQ(plan.clone_flags, 0x1234U);
  EXPECT_EQ(plan.tree_count, 5U);
  EXPECT_EQ(plan.share_memory, 1);
  for (const OpList& list : {plan.tmpl, plan.home, plan.copies, plan.worker}) {
    ExpectInside(plan, list);
  }
  ASSERT_EQ(plan.tmpl.count, 1U);
  const Op& mount = plan.ops(plan.tmpl)[0];
  EXPECT_EQ(mount.code, OpCode::kMount);
  EXPECT_EQ(mount.step, Step::kMountTmpfs);
  EXPECT_STREQ(plan.text(mount.text[0]), "tmpfs");
  EXPECT_STREQ(plan.text(mount.text[1]), "/mnt");
  EXPECT_STREQ(plan.text(mount.text[2]), "size=1m");
  EXPECT_EQ(mount.number[0], 6U);
  EXPECT_EQ(mount.number[1], 9U);
  EXPECT_EQ(mount.index, 3);
  ASSERT_EQ(plan.home.count, 1U);
  EXPECT_STREQ(plan.text(plan.ops(plan.home)[0].text[0]), "/home");
  ASSERT_EQ(plan.copies.count, 1U);
  EXPECT_EQ(plan.ops(plan.copies)[0].step, Step::kCopyTree);

  ASSERT_EQ(plan.worker.count, 3U);
  const Op* worker = plan.ops(plan.worker);
  EXPECT_EQ(plan.text(worker[0].text[0]), nullptr) << "an empty text stands for none";
  EXPECT_STREQ(plan.text(worker[0].text[1]), "target");
  EXPECT_EQ(worker[1].code, OpCode::kLoopback);
  EXPECT_EQ(plan.text(worker[1].text[0]), nullptr);
  EXPECT_EQ(worker[2].number[0], UINT64_MAX);
  EXPECT_EQ(worker[2].index, 15);

  const kernel::SeccompFilter program = plan.seccomp();
  ASSERT_EQ(program.length, 2);
  EXPECT_EQ(std::memcmp(program.instructions, filter.data(), 2 * sizeof(sock_filter)), 0);
  EXPECT_LE(plan.seccomp_offset + 2 * sizeof(sock_filter), plan.bytes);
}

TEST(PlanBuilderTest, BuildsTheSameAgain) {
  PlanBuilder builder;
  builder.Add(PlanBuilder::kWorker, OpCode::kHostname, Step::kHostname, {"name"}, 4);
  EXPECT_EQ(builder.Build({}, {}), builder.Build({}, {}));
}

TEST(PlanBuilderTest, HasNoBytesOfTheStack) {
  // What was in the memory of a plan before it does not show in the block that workers share.
  PlanBuilder builder;
  builder.Add(PlanBuilder::kWorker, OpCode::kHostname, Step::kHostname, {"name"}, 4);
  const auto build_over = [&](unsigned char byte) {
    alignas(Plan) std::array<unsigned char, sizeof(Plan)> memory;
    memory.fill(byte);
    __asm__ volatile("" : : "r"(memory.data()) : "memory");
    return builder.Build(*new (memory.data()) Plan, {});
  };
  EXPECT_EQ(build_over(0xff), build_over(0));
}

}  // namespace
}  // namespace brood
