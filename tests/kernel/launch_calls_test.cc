// SPDX-License-Identifier: Apache-2.0

// The list of what child code calls between its filter and its command, against the child code.
#include "spawn/seccomp/launch_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <seccomp.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <string>

#include "spawn/base/status.h"
#include "spawn/launch/cold.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

std::string NameOf(std::uint32_t number) {
  char* const name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number));
  std::string text = name == nullptr ? "" : name;
  std::free(name);
  return text;
}

class LaunchCallsTest : public LeavesNothing {
 protected:
  void TearDown() override {
    unlink(path_.c_str());
    LeavesNothing::TearDown();
  }

  // A profile that allows the listed calls, and all that a shell needs besides, but `without`.
  Spec SpecWithout(std::string_view without, std::string_view others = "SCMP_ACT_KILL_PROCESS") {
    std::set<std::string> names;
    for (const LaunchCall& call : kLaunchCalls) names.insert(NameOf(call.number));
    names.erase("");
    names.erase(std::string(without));
    std::string list;
    for (const std::string& name : names)
      list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", name);
    std::ofstream(path_) << fmt::format(
        R"({{"defaultAction": "{}", "syscalls": [{{"names": [{}], "action": "SCMP_ACT_ALLOW"}}]}})",
        others, list);
    Spec spec;
    spec.use_cgroup = false;
    spec.seccomp = {SeccompMode::kFile, path_};
    return spec;
  }

  const std::string path_ = testing::TempDir() + "launch-calls.json";
};

// A program of one call that is listed: exec, then exit_group.
TEST_F(LaunchCallsTest, AreAllThatAWorkerCalls) {
  BROOD_NEEDS_ROOT();
  const auto blueprint = Blueprint::Make(SpecWithout(""), PlanKind::kCold);
  ASSERT_TRUE(blueprint.ok()) << Message(blueprint.status());
  EXPECT_EQ(blueprint->plan().late_seccomp, 0);
  Command command;
  command.argv = {"/no/such/program"};
  command.env = DefaultEnvironment();
  // The launch's own words arrive: no call before the exec has met the filter.
  const auto outcome = RunCold(*blueprint, command, {}, nullptr);
  ASSERT_TRUE(outcome.ok()) << Message(outcome.status());
  EXPECT_EQ(outcome->end, End::kSetupFailed) << outcome->signal;
  EXPECT_EQ(outcome->failure.step, Step::kExec);
}

TEST_F(LaunchCallsTest, OneThatAFilterForbidsPutsTheFilterOff) {
  for (const LaunchCall& call : kLaunchCalls) {
    const std::string name = NameOf(call.number);
    if (name == "execve") continue;
    const auto blueprint = Blueprint::Make(SpecWithout(name), PlanKind::kCold);
    ASSERT_TRUE(blueprint.ok()) << name << ": " << Message(blueprint.status());
    EXPECT_EQ(blueprint->plan().late_seccomp, 1) << name;
  }
}

TEST_F(LaunchCallsTest, AFilterThatKillsEveryCommandIsRefused) {
  const auto blueprint = Blueprint::Make(SpecWithout("execve"), PlanKind::kCold);
  ASSERT_FALSE(blueprint.ok());
  EXPECT_THAT(std::string(Message(blueprint.status())),
              HasSubstr("kills a process that calls execve"));
}

// Whoever is killed by the filter behind that is told of it.
TEST_F(LaunchCallsTest, ACommandThatItsFilterKillsIsToldSo) {
  BROOD_NEEDS_ROOT();
  const auto blueprint = Blueprint::Make(SpecWithout(""), PlanKind::kCold);
  ASSERT_TRUE(blueprint.ok()) << Message(blueprint.status());
  Command command;
  command.argv = {"/bin/true"};  // brk(2) is not listed
  command.env = DefaultEnvironment();
  const auto outcome = RunCold(*blueprint, command, {}, nullptr);
  ASSERT_TRUE(outcome.ok()) << Message(outcome.status());
  EXPECT_EQ(outcome->signal, SIGSYS);
  ASSERT_EQ(outcome->limits_met.size(), 1U);
  EXPECT_THAT(outcome->limits_met[0], HasSubstr("system call filter"));
}

}  // namespace
}  // namespace brood
