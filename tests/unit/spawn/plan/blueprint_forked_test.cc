// SPDX-License-Identifier: Apache-2.0

// What the process and the calls of a forked function come to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/child/plan.h"
#include "spawn/host/without.h"
#include "spawn/launch/forked.h"
#include "spawn/plan/blueprint.h"
#include "spawn/plan/plan_builder.h"
#include "tests/unit/spawn/plan/blueprint_test.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

TEST_F(BlueprintTest, CallOfAForkedFunctionMapsItsIdsFirstAndFiltersLast) {
  Spec spec;
  spec.uid = 7;
  spec.gid = 8;
  spec.tmpfs.push_back({.target = "/mnt"});
  const auto specs = SplitForked(spec);
  ASSERT_TRUE(specs.ok()) << specs.status();
  const Blueprint blueprint = Make(specs->call, PlanKind::kForked);
  const Plan& plan = blueprint.plan();
  EXPECT_EQ(plan.clone_flags,
            kernel::kAllNamespaces & ~kernel::kCloneNewCgroup & ~kernel::kCloneNewTime);
  EXPECT_EQ(plan.tree_count, 1U) << "its /proc";
  const Op* const ops = plan.ops(plan.worker);
  const std::pair<std::string_view, std::string_view> maps[] = {{"/proc/self/setgroups", "deny"},
                                                                {"/proc/self/gid_map", "8 8 1"},
                                                                {"/proc/self/uid_map", "7 7 1"}};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ops[i].code, OpCode::kWriteFile);
    EXPECT_EQ(plan.text(ops[i].text[0]), maps[i].first);
    EXPECT_EQ(plan.text(ops[i].text[1]), maps[i].second);
  }
  EXPECT_EQ(ops[plan.worker.count - 1].code, OpCode::kSeccomp);
  std::vector<std::string> tmpfs;
  for (std::uint32_t i = 0; i < plan.worker.count; ++i) {
    if (ops[i].step == Step::kMountTmpfs) tmpfs.emplace_back(plan.text(ops[i].text[1]));
  }
  EXPECT_THAT(tmpfs, ::testing::UnorderedElementsAre("/run", "/dev/shm", "/tmp", "/mnt"));
}

TEST_F(BlueprintTest, ProcessOfAForkedFunctionMayMakeNamespacesAndHasNoMore) {
  Spec spec = Rooted(RootMode::kReadOnly);
  spec.capabilities = {"NET_ADMIN"};
  const auto specs = SplitForked(spec);
  ASSERT_TRUE(specs.ok()) << specs.status();
  EXPECT_TRUE(specs->process.nesting);
  EXPECT_TRUE(specs->process.capabilities.empty());
  EXPECT_EQ(specs->process.ns(NamespaceKind::kCgroup).mode, NamespaceMode::kHost);
  EXPECT_EQ(specs->process.seccomp.mode, SeccompMode::kDefault);
  EXPECT_FALSE(specs->call.nesting);
  EXPECT_EQ(specs->call.capabilities, spec.capabilities);
  const Blueprint process = Make(specs->process);
  EXPECT_EQ(process.plan().clone_flags & kernel::kCloneNewUser, kernel::kCloneNewUser);
}

TEST_F(BlueprintTest, RefusesToForkWhatCallsWouldHaveInCommon) {
  struct Case {
    std::function<void(Spec&)> change;
    std::string_view why;
  };
  const Case cases[] = {
      {[](Spec& spec) { spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost; },
       "needs a user namespace"},
      {[](Spec& spec) { spec.ns(NamespaceKind::kPid).mode = NamespaceMode::kHost; },
       "needs a pid namespace"},
      {[](Spec& spec) { spec.ns(NamespaceKind::kIpc).mode = NamespaceMode::kHost; },
       "needs a ipc namespace"},
      {[&](Spec& spec) { spec = Rooted(RootMode::kOverlay); }, "must be read-only"},
      {[&](Spec& spec) { spec = Rooted(RootMode::kReadWrite); }, "must be read-only"},
  };
  for (const Case& test : cases) {
    Spec spec;
    test.change(spec);
    const auto specs = SplitForked(spec);
    ASSERT_FALSE(specs.ok()) << test.why;
    EXPECT_THAT(std::string(Message(specs.status())), HasSubstr(std::string(test.why)));
  }
}

TEST_F(BlueprintTest, CallOfAForkedFunctionKeepsWhatIsBoundBelowItsOwnMounts) {
  Spec spec;
  spec.tmpfs.push_back({.target = "/mnt"});
  spec.binds = {{"/etc", "/tmp/etc", true}, {"/etc", "/mnt/etc", true}, {"/etc", "/media", true}};
  const auto specs = SplitForked(spec);
  ASSERT_TRUE(specs.ok()) << specs.status();
  const Blueprint call = Make(specs->call, PlanKind::kForked);
  std::vector<std::string> copied;
  std::vector<std::string> attached;
  const Op* const ops = call.plan().ops(call.plan().worker);
  for (std::uint32_t i = 0; i < call.plan().worker.count; ++i) {
    const char* text = call.plan().text(ops[i].text[0]);
    if (ops[i].code == OpCode::kBindPath) copied.emplace_back(text);
    if (ops[i].code == OpCode::kAttach) attached.emplace_back(text);
  }
  EXPECT_THAT(copied, ::testing::UnorderedElementsAre("/tmp/etc", "/mnt/etc"));
  EXPECT_THAT(attached, ::testing::UnorderedElementsAre("/proc", "/tmp/etc", "/mnt/etc"));
}

}  // namespace
}  // namespace brood
