// SPDX-License-Identifier: Apache-2.0

// What a new configuration changes of the functions.
#include "pool/cli/function_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kNow[] =
    "[function.a]\ncommand = ['/bin/cat']\nmin = 2\n[function.b]\ncommand = ['/bin/true']\n"
    "template = 'web'\n[template.web]\nparked = 1\nhostname = 'web'\n";

struct Changed {
  std::vector<std::string> put, removed;
};

Changed Between(const std::string& now, const std::string& next) {
  const auto before = ParseServeConfig(now, "now");
  const auto after = ParseServeConfig(next, "next");
  EXPECT_TRUE(before.ok() && after.ok()) << before.status() << after.status();
  if (!before.ok() || !after.ok()) return {};
  const FunctionChanges changes = ChangedFunctions(*before, *after);
  Changed out;
  for (const ServeFunction& each : changes.put) out.put.push_back(each.options.name);
  out.removed = changes.removed;
  return out;
}

std::string Replaced(std::string text, const std::string& what, const std::string& with) {
  return text.replace(text.find(what), what.size(), with);
}

TEST(FunctionChangesTest, TheSameTextChangesNothing) {
  const Changed changed = Between(kNow, Replaced(kNow, "min = 2", "min = 2  # as before"));
  EXPECT_THAT(changed.put, IsEmpty());
  EXPECT_THAT(changed.removed, IsEmpty());
}

TEST(FunctionChangesTest, AKeyACommandOrAnEnvironmentIsAChange) {
  EXPECT_THAT(Between(kNow, Replaced(kNow, "min = 2", "min = 3")).put, ElementsAre("a"));
  EXPECT_THAT(Between(kNow, Replaced(kNow, "'/bin/cat'", "'/bin/cat', 'x'")).put, ElementsAre("a"));
  EXPECT_THAT(Between(kNow, Replaced(kNow, "min = 2", "min = 2\nenv = ['A=b']")).put,
              ElementsAre("a"));
  // A word is not the same in another place.
  EXPECT_THAT(Between("[function.a]\ncommand = ['/bin/cat', 'A=b']\n",
                      "[function.a]\ncommand = ['/bin/cat']\nenv = ['A=b']\n")
                  .put,
              ElementsAre("a"));
}

TEST(FunctionChangesTest, ASharedTemplateIsAChangeOfItsFunctions) {
  EXPECT_THAT(Between(kNow, Replaced(kNow, "hostname = 'web'", "hostname = 'other'")).put,
              ElementsAre("b"));
  EXPECT_THAT(Between(kNow, Replaced(kNow, "template = 'web'\n", "")).put, ElementsAre("b"));
}

TEST(FunctionChangesTest, AddedAndRemoved) {
  const Changed changed = Between(kNow, Replaced(kNow, "[function.a]", "[function.c]"));
  EXPECT_THAT(changed.put, ElementsAre("c"));
  EXPECT_THAT(changed.removed, ElementsAre("a"));
}

}  // namespace
}  // namespace brood
