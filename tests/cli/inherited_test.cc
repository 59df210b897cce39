// SPDX-License-Identifier: Apache-2.0

// What `brood run` was started with beside its isolation does not reach the command.
#include "tests/inherited.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/ordinary_user.h"
#include "tests/program.h"

namespace brood {
namespace {

class InheritedTest : public LeavesNothing {};

TEST_F(InheritedTest, ACommandStartsWithTheDefaults) {
  BROOD_NEEDS_ROOT();
  Brood brood(Words{"run"} + Shell(kShowAttributes), TakeOddAttributes);
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_EQ(brood.out(), DefaultAttributes());
}

// What was lowered by somebody with the privilege for it stays, and is told.
TEST_F(InheritedTest, WhatCannotBePutBackIsToldByName) {
  BROOD_NEEDS_ROOT();
  Brood brood(Words{"run", "--json"} + Shell("cut -d' ' -f19 /proc/self/stat"), [] {
    setpriority(PRIO_PROCESS, 0, 7);
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(99);
  });
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_EQ(brood.out(), "7\n");
  EXPECT_NE(brood.err().find("nice 0"), std::string::npos) << brood.err();
}

}  // namespace
}  // namespace brood
