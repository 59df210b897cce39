// SPDX-License-Identifier: Apache-2.0

// Every step that can fail, failing: what is told, and that nothing is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "spawn/host/machine.h"
#include "tests/kernel/cold.h"

namespace brood {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

class ColdFaultTest : public ColdRootTest {
 protected:
  void ExpectFailure(const Spec& spec, const FaultInjection& fault, std::uint16_t index) {
    SCOPED_TRACE(fmt::format("{} at {}", StepName(fault.step), fault.index));
    const Outcome outcome = Run(spec, Shell("echo it ran"), fault);
    EXPECT_EQ(outcome.end, End::kSetupFailed) << Ending(outcome);
    EXPECT_EQ(outcome.failure.step, fault.step) << StepName(outcome.failure.step);
    EXPECT_EQ(outcome.failure.index, index);
    EXPECT_EQ(outcome.failure.error, fault.error);
    EXPECT_THAT(outcome.message, HasSubstr("EXDEV (Invalid cross-device link)"));
    EXPECT_EQ(ExitStatus(outcome), fault.step == Step::kExec ? 126 : 125);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.signal, 0);
  }
};

TEST_F(ColdFaultTest, EveryOperationOfEveryPlanReportsItself) {
  std::map<std::string, Spec> specs = {{"the host's tree", {}},
                                       {"a read-only root", Rooted(RootMode::kReadOnly)},
                                       {"a writable root", Rooted(RootMode::kReadWrite)},
                                       {"an overlay", Rooted(RootMode::kOverlay)}};
  Spec& much = specs["much of everything"] = Rooted(RootMode::kReadOnly);
  much.binds = {{root_ / "etc", "/data", true}, {root_ / "etc/original", "/tmp/below/file", false}};
  much.tmpfs = {{.target = "/mnt"}, {.target = "/tmp/scratch"}};
  much.time_offsets.monotonic = seconds(5);
  much.uid = 1000;
  much.capabilities = {"NET_RAW"};
  much.rlimits = {{RLIMIT_CORE, 0, 0}};
  much.seccomp.mode = SeccompMode::kOff;
  Spec& joined = specs["the host's users, a joined namespace"] = {};
  joined.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  joined.ns(NamespaceKind::kTime) = {NamespaceMode::kJoin, "/proc/self/ns/time"};

  std::set<Step> reported;
  for (const auto& [name, spec] : specs) {
    SCOPED_TRACE(name);
    EXPECT_EQ(Output(spec, "echo it ran"), "it ran\n") << "without a fault";
    const Blueprint blueprint = Plan(spec);
    const brood::Plan& plan = blueprint.plan();
    for (std::uint32_t i = 0; i < plan.worker.count; ++i) {
      const Step step = plan.ops(plan.worker)[i].step;
      ExpectFailure(spec, {step, kInjected, static_cast<int>(i)}, static_cast<std::uint16_t>(i));
      reported.insert(step);
    }
  }
  for (const Step step : {Step::kJoinNamespace,
                          Step::kUnshare,
                          Step::kTimeOffsets,
                          Step::kPrivatePropagation,
                          Step::kAttachTree,
                          Step::kBindPath,
                          Step::kMountProc,
                          Step::kMountTmpfs,
                          Step::kMountDevpts,
                          Step::kMountOverlay,
                          Step::kMaskPath,
                          Step::kMakeDirectory,
                          Step::kMakeFile,
                          Step::kEnterRoot,
                          Step::kMountSys,
                          Step::kMountCgroup,
                          Step::kHostname,
                          Step::kLoopback,
                          Step::kNewSession,
                          Step::kNewKeyring,
                          Step::kSetIds,
                          Step::kParentDeath,
                          Step::kCapabilities,
                          Step::kNoNewPrivs,
                          Step::kRlimit,
                          Step::kSeccomp,
                          Step::kGo}) {
    EXPECT_EQ(reported.count(step), 1U) << StepName(step) << " is in none of these plans";
  }
  for (const Step step : {Step::kMakeSymlink, Step::kRemount}) {  // for a /dev of its own making
    EXPECT_EQ(reported.count(step) == 0, ThisMachine().makes_nodes) << StepName(step);
  }
}

TEST_F(ColdFaultTest, StepsOutsideThePlanReportThemselves) {
  for (const Step step : {Step::kCloneWorker, Step::kOpenLeaf, Step::kMapIds, Step::kStdio,
                          Step::kCloseFds, Step::kWorkingDirectory, Step::kExec}) {
    ExpectFailure({}, {step, kInjected, -1}, 0);
  }
}

TEST_F(ColdFaultTest, FilterInstalledLateReportsItself) {
  Spec spec;
  spec.seccomp = {SeccompMode::kFile,
                  Write("late.json", R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                       {"names": ["recvmsg"], "action": "SCMP_ACT_ERRNO"}]})")};
  EXPECT_EQ(Output(spec, "grep -c 'Seccomp:.2' /proc/self/status"), "1\n");
  ExpectFailure(spec, {Step::kSeccomp, kInjected, -1}, 0);
}

TEST_F(ColdFaultTest, RefusedIdmapIsAFallback) {
  const Outcome outcome = Run(Rooted(RootMode::kReadOnly), Shell("id -u; stat -c %u /etc/original"),
                              {Step::kIdmapTree, kInjected, -1});
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(outcome.out, "0\n65534\n");
  ASSERT_EQ(outcome.fallbacks.size(), 1U);
  EXPECT_EQ(outcome.fallbacks[0].error, kInjected);
  EXPECT_THAT(outcome.fallbacks[0].used, HasSubstr("nobody"));
}

TEST_F(ColdFaultTest, RealRefusalsOfTheKernel) {
  Spec spec;
  spec.rlimits = {{RLIMIT_NOFILE, 1, UINT64_MAX - 1}};
  const Outcome limit = Run(spec, Words({"true"}));
  EXPECT_EQ(limit.failure.step, Step::kRlimit) << Ending(limit);
  EXPECT_EQ(limit.failure.error, EPERM);
  EXPECT_THAT(limit.message, HasSubstr("can be raised only with CAP_SYS_RESOURCE"));

  Birthplace gone = Place();
  Remove(gone);
  const auto leaf = RunCold(Plan({}), Words({"true"}), gone, nullptr);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_EQ(leaf->failure.step, Step::kOpenLeaf) << Ending(*leaf);
  EXPECT_EQ(leaf->failure.error, ENOENT);
  EXPECT_THAT(leaf->message, HasSubstr("the cgroup was removed"));
}

}  // namespace
}  // namespace brood
