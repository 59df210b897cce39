// SPDX-License-Identifier: Apache-2.0

// brood without a command.
#include <gmock/gmock.h>

#include "tests/program.h"

namespace brood {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(OverviewTest, AloneItShowsItsCommands) {
  Brood brood({});
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_THAT(brood.out(), AllOf(HasSubstr("run"), HasSubstr("serve"), HasSubstr("doctor")));
}

TEST(OverviewTest, AnUnknownCommandIsNamed) {
  Brood brood({"rum"});
  EXPECT_EQ(brood.Wait(), 125);
  EXPECT_THAT(brood.err(), HasSubstr("there is no command \"rum\""));
}

}  // namespace
}  // namespace brood
