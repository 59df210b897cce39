// SPDX-License-Identifier: Apache-2.0

// The plan as the child reads it: a flat block that can be copied anywhere, and what each choice of
// a spec does to it.
#include "spawn/child/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/host/without.h"
#include "spawn/launch/forked.h"
#include "spawn/plan/blueprint.h"
#include "spawn/plan/plan_builder.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// --- PlanBuilder --------------------------------------------------------------------------------

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

void ExpectInside(const Plan& plan, const OpList& list) {
  EXPECT_EQ(list.offset % 8, 0U);
  EXPECT_LE(list.offset + list.count * sizeof(Op), plan.bytes);
}

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

// --- Blueprint ----------------------------------------------------------------------------------

// The operations of a worker by name, for looking at.
std::vector<Step> StepsOf(const Plan& plan, const OpList& list) {
  std::vector<Step> steps;
  for (std::uint32_t i = 0; i < list.count; ++i) steps.push_back(plan.ops(list)[i].step);
  return steps;
}

class BlueprintTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"proc", "dev", "tmp", "sys", "etc"}) {
      fs::create_directories(root_ / name);
    }
  }
  void TearDown() override { fs::remove_all(root_); }

  static Blueprint Make(const Spec& spec, PlanKind kind = PlanKind::kCold) {
    auto blueprint = Blueprint::Make(spec, kind);
    EXPECT_TRUE(blueprint.ok()) << Message(blueprint.status());
    return *std::move(blueprint);
  }

  // The sentence with which `spec` is refused.
  static std::string Refusal(const Spec& spec, absl::StatusCode code) {
    const auto blueprint = Blueprint::Make(spec, PlanKind::kCold);
    if (blueprint.ok()) return "<it was taken>";
    EXPECT_EQ(blueprint.status().code(), code) << blueprint.status();
    return std::string(Message(blueprint.status()));
  }

  Spec Rooted(RootMode mode) const {
    Spec spec;
    spec.root.mode = mode;
    spec.root.directory = root_;
    return spec;
  }

  // Only with these does a worker have power over namespaces that exist already.
  static Spec WithHostUsers() {
    Spec spec;
    spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
    spec.uid = ThisMachine().uid;
    spec.gid = ThisMachine().gid;
    return spec;
  }

  std::string Write(std::string_view name, std::string_view text) const {
    const fs::path path = root_ / name;
    std::ofstream(path) << text;
    return path;
  }

  const fs::path root_ = fs::path(::testing::TempDir()) / fmt::format("brood_plan_{}", getpid());
};

// CLONE_NEWTIME where exec enters what was unshared; else a worker is born into it.
std::uint64_t UnsharedTime() { return ThisMachine().exec_enters_time ? kernel::kCloneNewTime : 0; }

// Whether a worker of no special spec shares its parent's memory.
int Shared() { return ThisMachine().exec_enters_time ? 1 : 0; }

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

TEST_F(BlueprintTest, WhoJoinsAPidNamespaceCannotBeTracedOnceItHasNoCapabilities) {
  Spec spec;
  spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  spec.ns(NamespaceKind::kPid) = {NamespaceMode::kJoin, "/proc/self/ns/pid"};
  if (!ThisMachine().id_ranges) GTEST_SKIP() << "needs root";
  for (const PlanKind kind : {PlanKind::kCold, PlanKind::kTemplate}) {
    const auto blueprint = Blueprint::Make(spec, kind);
    ASSERT_TRUE(blueprint.ok()) << blueprint.status();
    const Plan& plan = blueprint->plan();
    const Op* const ops = plan.ops(plan.worker);
    const Op* const end = ops + plan.worker.count;
    const auto at = [&](OpCode code) {
      return std::find_if(ops, end, [&](const Op& op) { return op.code == code; });
    };
    EXPECT_NE(at(OpCode::kUndumpable), end);
    EXPECT_LT(at(OpCode::kUndumpable), at(OpCode::kCapabilities));
  }
}

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
    const Blueprint shared = Make(Rooted(mode), PlanKind::kTemplate);
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

TEST_F(BlueprintTest, RefusesWhatThisMachineCannotDo) {
  using Code = absl::StatusCode;
  struct Case {
    std::string_view name;
    std::function<void(Spec&)> change;
    Code code;
    std::string sentence;
  };
  const std::string root = root_;
  const std::string profile = Write("broken.json", "{");
  fs::create_directories(root_ / "bare/proc");
  const std::vector<Case> cases = {
      {"no such root", [&](Spec& s) { s.root.directory = root + "/none"; }, Code::kNotFound,
       "opening the root directory " + root + "/none: ENOENT"},
      {"root is a file", [&](Spec& s) { s.root.directory = profile; }, Code::kNotFound, "ENOTDIR"},
      {"root without /dev", [&](Spec& s) { s.root.directory = root + "/bare"; },
       Code::kFailedPrecondition, "has no directory /dev"},
      {"no such source",
       [&](Spec& s) {
         s.binds = {{root + "/none", "/etc", false}};
       },
       Code::kNotFound, "opening " + root + "/none, to be bound on /etc: ENOENT"},
      {"no such target",
       [&](Spec& s) {
         s.binds = {{root, "/none", false}};
       },
       Code::kNotFound, "on /none inside the root: make it first"},
      {"directory on a file",
       [&](Spec& s) {
         s.binds = {{root, "/broken.json", false}};
       },
       Code::kInvalidArgument, "it is not a directory"},
      {"file on a directory",
       [&](Spec& s) {
         s.binds = {{profile, "/etc", false}};
       },
       Code::kInvalidArgument, "it is a directory"},
      {"bind on /proc",
       [&](Spec& s) {
         s.binds = {{root, "/proc/x", false}};
       },
       Code::kInvalidArgument, "/proc is the worker's own"},
      {"tmpfs on /proc", [&](Spec& s) { s.tmpfs = {{.target = "/proc"}}; }, Code::kInvalidArgument,
       "/proc is the worker's own"},
      {"no such tmpfs target", [&](Spec& s) { s.tmpfs = {{.target = "/none"}}; }, Code::kNotFound,
       "mount a tmpfs on /none inside the root"},
      {"no such namespace",
       [&](Spec& s) {
         s = WithHostUsers();
         s.ns(NamespaceKind::kNet) = {NamespaceMode::kJoin, root + "/none"};
       },
       Code::kNotFound, "opening the net namespace " + root + "/none to join: ENOENT"},
      {"no namespace at all",
       [&](Spec& s) {
         s = WithHostUsers();
         s.ns(NamespaceKind::kNet) = {NamespaceMode::kJoin, profile};
       },
       Code::kInvalidArgument, "is not a net namespace"},
      {"another kind of namespace",
       [&](Spec& s) {
         s = WithHostUsers();
         s.ns(NamespaceKind::kNet) = {NamespaceMode::kJoin, "/proc/self/ns/uts"};
       },
       Code::kInvalidArgument, "/proc/self/ns/uts is not a net namespace"},
      {"broken profile",
       [&](Spec& s) {
         s.seccomp = {SeccompMode::kFile, profile};
       },
       Code::kInvalidArgument, "broken.json"},
      {"no such profile",
       [&](Spec& s) {
         s.seccomp = {SeccompMode::kFile, root + "/none"};
       },
       Code::kNotFound, root + "/none"},
      {"more mounts than a worker can have",
       [&](Spec& s) {
         for (int i = 0; i < 1100; ++i) {
           s.binds.push_back({root + "/etc", fmt::format("/tmp/{}", i), true});
         }
       },
       Code::kInvalidArgument, "too many mounts for one worker"},
      {"more operations than a worker can do",
       [&](Spec& s) {
         s.rlimits.assign(kMaxOps, {RLIMIT_CORE, 0, 0});
       },
       Code::kInvalidArgument, "too many"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    Spec spec = Rooted(RootMode::kReadOnly);
    test.change(spec);
    EXPECT_THAT(Refusal(spec, test.code), HasSubstr(test.sentence));
  }
}

TEST_F(BlueprintTest, RefusesIdsOutsideTheRange) {
  if (!ThisMachine().id_ranges) GTEST_SKIP() << "missing: root that may map id ranges";
  Spec spec;
  spec.uid = 65535;
  EXPECT_TRUE(Blueprint::Make(spec, PlanKind::kCold).ok());
  spec.uid = 65536;
  EXPECT_THAT(Refusal(spec, absl::StatusCode::kInvalidArgument),
              HasSubstr("ids inside go from 0 to 65535: 65536:0 does not fit"));
  spec.uid = 0;
  spec.gid = 70000;
  EXPECT_THAT(Refusal(spec, absl::StatusCode::kInvalidArgument), HasSubstr("0:70000"));
}

TEST_F(BlueprintTest, LinksOfTheRootDoNotLeadOut) {
  fs::create_directory_symlink("/etc", root_ / "out");
  fs::create_directory_symlink("../../../../../../../../tmp", root_ / "up");
  Spec spec = Rooted(RootMode::kReadOnly);
  // Inside, /out is the root's own /etc, a directory, whatever the host's /etc holds.
  spec.binds = {{root_, "/out/hostname", true}};
  EXPECT_THAT(Refusal(spec, absl::StatusCode::kNotFound), HasSubstr("/out/hostname"));
  spec.tmpfs = {{.target = "/up"}};
  spec.binds.clear();
  EXPECT_TRUE(Blueprint::Make(spec, PlanKind::kCold).ok());
}

// --- Describe -----------------------------------------------------------------------------------

class DescribeTest : public BlueprintTest {
 protected:
  // The sentence for the first operation that is `step`, failing with `error`.
  static std::string Describe(const Blueprint& blueprint, Step step, int error,
                              const Command* command = nullptr) {
    const Plan& plan = blueprint.plan();
    Failure failure{step, 0, error};
    for (std::uint32_t i = 0; i < plan.worker.count; ++i) {
      if (plan.ops(plan.worker)[i].step != step) continue;
      failure.index = static_cast<std::uint16_t>(i);
      break;
    }
    return blueprint.Describe(failure, plan.worker, command);
  }
};

TEST_F(DescribeTest, NamesActionSubjectErrnoAndAdvice) {
  Spec spec;
  spec.hostname = "nest";
  const Blueprint blueprint = Make(spec);
  EXPECT_EQ(Describe(blueprint, Step::kHostname, EPERM),
            "setting the hostname nest: EPERM (Operation not permitted)");
  EXPECT_THAT(
      Describe(blueprint, Step::kMountProc, EPERM),
      StartsWith("mounting /proc: EPERM (Operation not permitted); /proc is partly hidden"));
  EXPECT_THAT(Describe(blueprint, Step::kCloneWorker, ENOSPC),
              StartsWith("cloning the worker into its namespaces: ENOSPC (No space left on "
                         "device); a namespace count is used up"));
  EXPECT_EQ(Describe(blueprint, Step::kLoopback, EXDEV),
            "bringing up the loopback interface: EXDEV (Invalid cross-device link)");
}

TEST_F(DescribeTest, NamesTheTargetOfAMount) {
  Spec spec = Rooted(RootMode::kReadOnly);
  spec.tmpfs = {{.target = "/etc"}};
  const Blueprint blueprint = Make(spec);
  const Plan& plan = blueprint.plan();
  std::vector<std::string> sentences;
  for (std::uint32_t i = 0; i < plan.worker.count; ++i) {
    if (plan.ops(plan.worker)[i].step != Step::kMountTmpfs) continue;
    sentences.push_back(
        blueprint.Describe({Step::kMountTmpfs, static_cast<std::uint16_t>(i), EXDEV}, plan.worker));
  }
  EXPECT_THAT(sentences, ::testing::Contains(StartsWith("mounting a tmpfs /etc: EXDEV")));
  EXPECT_THAT(sentences, ::testing::Contains(StartsWith("mounting a tmpfs /tmp: EXDEV")));
}

TEST_F(DescribeTest, NamesTheCommandAndItsDirectory) {
  const Blueprint blueprint = Make({});
  Command command;
  command.argv = {"frobnicate", "-x"};
  command.cwd = "/nowhere";
  EXPECT_THAT(Describe(blueprint, Step::kExec, ENOENT, &command),
              StartsWith("executing frobnicate: ENOENT (No such file or directory); no such file "
                         "inside the root"));
  EXPECT_THAT(Describe(blueprint, Step::kWorkingDirectory, ENOENT, &command),
              StartsWith("changing to the working directory /nowhere: ENOENT"));
}

TEST_F(DescribeTest, SurvivesARecordThatMakesNoSense) {
  const Blueprint blueprint = Make({});
  const OpList& worker = blueprint.plan().worker;
  for (const Failure& failure :
       {Failure{Step::kMountProc, 0xffff, EPERM}, Failure{static_cast<Step>(0xfff0), 0, -5},
        Failure{Step::kNone, 0, 0}, Failure{Step::kExec, 3, 99999}}) {
    EXPECT_THAT(blueprint.Describe(failure, worker), HasSubstr(": "));
  }
}

}  // namespace
}  // namespace brood
