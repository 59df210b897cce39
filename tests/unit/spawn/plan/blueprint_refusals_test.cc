// SPDX-License-Identifier: Apache-2.0

// What cannot be planned, and the sentences for what failed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/child/plan.h"
#include "spawn/host/machine.h"
#include "spawn/host/without.h"
#include "spawn/launch/forked.h"
#include "spawn/plan/blueprint.h"
#include "spawn/plan/plan_builder.h"
#include "tests/unit/spawn/plan/blueprint_test.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using ::testing::StartsWith;

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
       Code::kNotFound,
       "on /none inside the root: /none: ENOENT (No such file or directory); make it first"},
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
