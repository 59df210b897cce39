// SPDX-License-Identifier: Apache-2.0

// Every step has its words.
#include "spawn/limits/advice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <set>
#include <string_view>

namespace brood {
namespace {

constexpr int kSteps = static_cast<int>(Step::kCount);

TEST(StepNameTest, IsUniqueAndFitForJson) {
  std::set<std::string_view> names;
  for (int i = 0; i < kSteps; ++i) {
    const std::string_view name = StepName(static_cast<Step>(i));
    EXPECT_FALSE(name.empty()) << i;
    EXPECT_TRUE(names.insert(name).second) << name << " twice";
    EXPECT_TRUE(std::all_of(name.begin(), name.end(), [](char c) {
      return std::islower(c) != 0 || c == '_';
    })) << name;
  }
}

TEST(StepActionTest, IsUniqueAndStartsASentence) {
  std::set<std::string_view> actions;
  for (int i = 1; i < kSteps; ++i) {
    const std::string_view action = StepAction(static_cast<Step>(i));
    EXPECT_TRUE(actions.insert(action).second) << action << " twice";
    const std::string_view verb = action.substr(0, action.find(' '));
    EXPECT_TRUE(verb.ends_with("ing")) << action;
    EXPECT_NE(action.back(), '.') << action;
  }
}

TEST(StepNameTest, AnswersForWhatIsNoStep) {
  // A failure record comes from memory that a worker shares: any number can be in it.
  for (const int number : {kSteps, kSteps + 1, 0xffff}) {
    EXPECT_EQ(StepName(static_cast<Step>(number)), "none") << number;
    EXPECT_EQ(StepAction(static_cast<Step>(number)), StepAction(Step::kNone)) << number;
  }
}

TEST(AdviceTest, SaysWhatToDoWhereThereIsSomethingToDo) {
  struct Case {
    Step step;
    int error;
    std::string_view piece;
  };
  const Case cases[] = {
      {Step::kCloneWorker, ENOSPC, "user.max_"},
      {Step::kCloneWorker, EPERM, "seccomp=unconfined"},
      {Step::kCloneWorker, EAGAIN, "pids.max"},
      {Step::kMountOverlay, ENODEV, "modprobe overlay"},
      {Step::kMountProc, EPERM, "unmask /proc"},
      {Step::kAttachTree, ENOSPC, "fs.mount-max"},
      {Step::kSeccomp, 524, "net.core.bpf_jit_limit"},
      {Step::kExec, ENOENT, "#! line"},
      {Step::kExec, ENOEXEC, "neither a program for this machine"},
  };
  for (const Case& test : cases) {
    EXPECT_NE(Advice(test.step, test.error).find(test.piece), std::string_view::npos)
        << StepName(test.step) << ": " << Advice(test.step, test.error);
  }
}

TEST(AdviceTest, IsSilentOtherwise) {
  EXPECT_EQ(Advice(Step::kHostname, EXDEV), "");
  EXPECT_EQ(Advice(Step::kExec, 0), "");
  EXPECT_EQ(Advice(static_cast<Step>(0xffff), ENOENT), "");
}

}  // namespace
}  // namespace brood
