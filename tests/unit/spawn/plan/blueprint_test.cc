// SPDX-License-Identifier: Apache-2.0

// What a spec comes to: operations, their order, and what they share.
#include "spawn/plan/blueprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "spawn/child/plan.h"
#include "spawn/host/machine.h"
#include "spawn/host/without.h"
#include "spawn/plan/plan_builder.h"
#include "tests/unit/spawn/plan/blueprint_test.h"

namespace brood {
namespace {

using ::testing::Not;

TEST_F(BlueprintTest, DefaultMakesSixNamespacesAtBirthAndTwoLater) {
  const Blueprint blueprint = Make({});
  const Plan& plan = blueprint.plan();
  EXPECT_EQ(plan.clone_flags & ~kernel::kCloneEmptyMntns,
            kernel::kCloneNewNs | kernel::kCloneNewPid | kernel::kCloneNewNet |
                kernel::kCloneNewIpc | kernel::kCloneNewUts | kernel::kCloneNewUser |
                (kernel::kCloneNewTime ^ UnsharedTime()));
  EXPECT_EQ((plan.clone_flags & kernel::kCloneEmptyMntns) != 0, ThisMachine().empty_mounts);
  EXPECT_EQ(plan.maps_by, MapsBy::kCloner);
  ASSERT_GT(plan.worker.count, 0U);
  const Op& first = plan.ops(plan.worker)[0];
  EXPECT_EQ(first.code, OpCode::kUnshare);
  EXPECT_EQ(first.number[0], kernel::kCloneNewCgroup | UnsharedTime());
  EXPECT_EQ(plan.fail_error != 0, Without(Way::kIdmap));
  EXPECT_EQ(blueprint.block().size(), plan.bytes);
}

TEST_F(BlueprintTest, EachNamespaceCanBeTheHosts) {
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    Spec spec;
    spec.ns(kind).mode = NamespaceMode::kHost;
    if (kind == NamespaceKind::kUser) {
      spec.uid = ThisMachine().uid;
      spec.gid = ThisMachine().gid;
    }
    const Blueprint blueprint = Make(spec);
    const Plan& plan = blueprint.plan();
    EXPECT_EQ(plan.clone_flags & NamespaceFlag(kind), 0U) << NamespaceName(kind);
    EXPECT_EQ(plan.maps_by, kind == NamespaceKind::kUser ? MapsBy::kNobody : MapsBy::kCloner)
        << NamespaceName(kind);
    for (std::uint32_t op = 0; op < plan.worker.count; ++op) {
      if (plan.ops(plan.worker)[op].code != OpCode::kUnshare) continue;
      EXPECT_EQ(plan.ops(plan.worker)[op].number[0] & NamespaceFlag(kind), 0U)
          << NamespaceName(kind);
    }
    const std::vector<Step> steps = StepsOf(plan, plan.worker);
    const auto count = [&](Step step) { return std::count(steps.begin(), steps.end(), step); };
    EXPECT_EQ(count(Step::kHostname), kind == NamespaceKind::kUts ? 0 : 1);
    EXPECT_EQ(count(Step::kLoopback), kind == NamespaceKind::kNet ? 0 : 1);
    EXPECT_EQ(count(Step::kEnterRoot), kind == NamespaceKind::kMount ? 0 : 1);
  }
}

TEST_F(BlueprintTest, NoMemoryIsSharedUnderAMemoryLimit) {
  // The OOM killer ends all who share its victim's memory: the launcher would be one of them.
  for (const PlanKind kind : {PlanKind::kCold, PlanKind::kTemplate}) {
    Spec spec;
    EXPECT_EQ(Make(spec, kind).plan().share_memory, Shared());
    spec.limits.pids = 5;
    spec.limits.cpus = 1;
    EXPECT_EQ(Make(spec, kind).plan().share_memory, Shared());
    spec.limits.memory_bytes = 1ULL << 40;
    EXPECT_EQ(Make(spec, kind).plan().share_memory, 0);
  }
}

TEST_F(BlueprintTest, NoMemoryIsSharedByAWorkerThatJoinsATimeNamespace) {
  Spec spec = WithHostUsers();
  spec.ns(NamespaceKind::kTime) = {NamespaceMode::kJoin, "/proc/self/ns/time"};
  EXPECT_EQ(Make(spec).plan().share_memory, 0);
}

TEST_F(BlueprintTest, MemoryIsSharedOnEveryKernelWithoutATimeNamespace) {
  Spec spec;
  spec.ns(NamespaceKind::kTime).mode = NamespaceMode::kHost;
  EXPECT_EQ(Make(spec).plan().share_memory, 1);
  EXPECT_EQ(Make(spec).plan().clone_flags & kernel::kCloneNewTime, 0U);
}

TEST_F(BlueprintTest, FilterThatRefusesTheLaunchComesLast) {
  Spec spec;
  spec.seccomp = {SeccompMode::kFile,
                  Write("late.json", R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                       {"names": ["recvmsg"], "action": "SCMP_ACT_ERRNO"}]})")};
  const Blueprint late = Make(spec);
  EXPECT_EQ(late.plan().late_seccomp, 1);
  EXPECT_GT(late.plan().seccomp_count, 0U);
  EXPECT_THAT(StepsOf(late.plan(), late.plan().worker), Not(::testing::Contains(Step::kSeccomp)));

  spec.seccomp.file = Write("early.json", R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                           {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]})");
  const Blueprint early = Make(spec);
  EXPECT_EQ(early.plan().late_seccomp, 0);
  EXPECT_EQ(StepsOf(early.plan(), early.plan().worker).back(), Step::kSeccomp);
}

TEST_F(BlueprintTest, FilterIsLastOfTheDefaultsOperationsAndAbsentWhenOff) {
  Spec spec;
  const Blueprint with = Make(spec);
  EXPECT_EQ(with.plan().late_seccomp, 0);
  EXPECT_EQ(StepsOf(with.plan(), with.plan().worker).back(), Step::kSeccomp);
  spec.seccomp.mode = SeccompMode::kOff;
  const Blueprint without = Make(spec);
  EXPECT_EQ(without.plan().seccomp_count, 0U);
  EXPECT_EQ(without.plan().late_seccomp, 0);
  EXPECT_THAT(StepsOf(without.plan(), without.plan().worker),
              Not(::testing::Contains(Step::kSeccomp)));
}

// The trees whose owners are shown as the worker's ids.
std::vector<std::string> Mapped(const Blueprint& blueprint) {
  const Plan& plan = blueprint.plan();
  std::vector<std::string> paths;
  for (std::uint32_t i = 0; i < plan.idmaps.count; ++i) {
    paths.emplace_back(plan.text(plan.ops(plan.idmaps)[i].text[0]));
  }
  return paths;
}

TEST_F(BlueprintTest, OwnersAreMappedInWhatTheCallerGaveAndNowhereElse) {
  if (!ThisMachine().id_ranges) GTEST_SKIP() << "missing: root that may map id ranges";
  EXPECT_THAT(Mapped(Make({})), ::testing::IsEmpty()) << "the host's tree stays foreign";
  for (const RootMode mode : {RootMode::kReadOnly, RootMode::kReadWrite, RootMode::kOverlay}) {
    EXPECT_THAT(Mapped(Make(Rooted(mode))), ::testing::ElementsAre(root_));
  }
  Spec bound = Rooted(RootMode::kReadOnly);
  bound.binds = {{root_ / "etc", "/etc", true}, {root_ / "sys", "/sys", false}};
  EXPECT_THAT(Mapped(Make(bound)), ::testing::ElementsAre(root_, root_ / "etc", root_ / "sys"));
  bound.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  EXPECT_THAT(Mapped(Make(bound)), ::testing::IsEmpty());
}

TEST_F(BlueprintTest, TemplateSharesItsMountsColdDoesAllItself) {
  if (!ThisMachine().mount_admin) GTEST_SKIP() << "missing: CAP_SYS_ADMIN over our mounts";
  for (const RootMode mode : {RootMode::kReadOnly, RootMode::kReadWrite, RootMode::kOverlay}) {
    const Blueprint cold = Make(Rooted(mode), PlanKind::kCold);
    EXPECT_EQ(cold.plan().tmpl.count + cold.plan().home.count + cold.plan().copies.count, 0U);
    Spec spec = Rooted(mode);
    spec.reuse = Reuse::kNone;
    const Blueprint shared = Make(spec, PlanKind::kTemplate);
    EXPECT_GT(shared.plan().tmpl.count, 0U);
    EXPECT_GT(shared.plan().home.count, 0U);
    EXPECT_GT(shared.plan().copies.count, 0U);
    EXPECT_LT(shared.plan().worker.count, cold.plan().worker.count);
  }
}

TEST_F(BlueprintTest, EveryTextAndTreeIsWithinBounds) {
  std::vector<Spec> specs = {{}, Rooted(RootMode::kReadOnly), Rooted(RootMode::kOverlay)};
  specs[1].binds = {{root_ / "etc", "/etc", true}};
  specs[2].tmpfs = {{.target = "/etc"}};
  for (const Spec& spec : specs) {
    for (const PlanKind kind : {PlanKind::kCold, PlanKind::kTemplate}) {
      const Blueprint blueprint = Make(spec, kind);
      const Plan& plan = blueprint.plan();
      EXPECT_LE(plan.tree_count, kMaxTrees);
      EXPECT_LE(plan.worker.count, kMaxOps);
      for (const OpList& list : {plan.tmpl, plan.home, plan.copies, plan.idmaps, plan.worker}) {
        ExpectInside(plan, list);
        for (std::uint32_t i = 0; i < list.count; ++i) {
          const Op& op = plan.ops(list)[i];
          for (const std::uint32_t text : op.text) EXPECT_LT(text, plan.bytes);
          if (op.code == OpCode::kAttach || op.code == OpCode::kBindPath ||
              op.code == OpCode::kNewMount || op.code == OpCode::kIdmap) {
            EXPECT_LT(op.index, plan.tree_count);
          }
        }
      }
      EXPECT_EQ(blueprint.block().back(), '\0') << "the last text ends";
    }
  }
}

TEST_F(BlueprintTest, CarriesTheFaultToInject) {
  const auto any = Blueprint::Make({}, PlanKind::kCold, {Step::kHostname, EXDEV, -1});
  ASSERT_TRUE(any.ok()) << any.status();
  EXPECT_EQ(any->plan().fail_step, Step::kHostname);
  EXPECT_EQ(any->plan().fail_error, EXDEV);
  EXPECT_EQ(any->plan().fail_index, 0xffff);
  const auto one = Blueprint::Make({}, PlanKind::kCold, {Step::kHostname, EXDEV, 3});
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->plan().fail_index, 3);
}

}  // namespace
}  // namespace brood
