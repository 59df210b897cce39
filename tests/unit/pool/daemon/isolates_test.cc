// SPDX-License-Identifier: Apache-2.0

// The daemon's book of isolates: names, beginnings of ids, and what is forgotten.
#include "pool/daemon/isolates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(IsolatesTest, IdsAreTwelveHexadecimalDigitsAndDiffer) {
  Isolates isolates;
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const auto isolate = isolates.Add("");
    ASSERT_TRUE(isolate.ok()) << isolate.status();
    EXPECT_THAT((*isolate)->id, MatchesRegex("[0-9a-f]+"));
    EXPECT_EQ((*isolate)->id.size(), 12U);
    ids.insert((*isolate)->id);
  }
  EXPECT_EQ(ids.size(), 100U);
  EXPECT_EQ(isolates.living(), 100U);
}

TEST(IsolatesTest, TakesNamesAndRefusesOtherWords) {
  Isolates isolates;
  for (const std::string& name :
       {std::string("a"), std::string("9"), std::string("Web-1_x.y"), std::string(64, 'n')}) {
    EXPECT_TRUE(isolates.Add(name).ok()) << name;
  }
  for (const std::string& name :
       {std::string(" "), std::string("-a"), std::string(".a"), std::string("_a"),
        std::string("a b"), std::string("a/b"), std::string("a\n"), std::string("a\0", 2),
        std::string("\xc3\xa4"), std::string(65, 'n')}) {
    EXPECT_EQ(isolates.Add(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(isolates.living(), 4U);
}

TEST(IsolatesTest, ANameIsFreeAgainOnceItsOwnerHasEnded) {
  Isolates isolates;
  Isolate* const first = isolates.Add("web").value();
  const auto second = isolates.Add("web");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(Message(second.status())), HasSubstr(first->id));
  isolates.End(*first);
  Isolate* const third = isolates.Add("web").value();
  EXPECT_EQ(isolates.Find("web").value(), third);
  EXPECT_EQ(isolates.Find(first->id).value(), first);
  isolates.End(*third);
  EXPECT_EQ(isolates.Find("web").value(), third) << "the latest of those that have ended";
}

TEST(IsolatesTest, FindsByTheBeginningOfAnId) {
  Isolates isolates;
  Isolate* const a = isolates.Add("").value();
  Isolate* const b = isolates.Add("").value();
  a->id = "aaaa00000000";
  b->id = "aaab00000000";
  struct Case {
    std::string_view word;
    const Isolate* found;
    absl::StatusCode code;
  };
  const std::vector<Case> cases = {
      {"aaaa", a, absl::StatusCode::kOk},
      {"aaab00000000", b, absl::StatusCode::kOk},
      {"aaa", nullptr, absl::StatusCode::kInvalidArgument},
      {"", nullptr, absl::StatusCode::kNotFound},
      {"b", nullptr, absl::StatusCode::kNotFound},
      {"aaaa000000000", nullptr, absl::StatusCode::kNotFound},
  };
  for (const Case& each : cases) {
    const auto found = isolates.Find(each.word);
    EXPECT_EQ(found.status().code(), each.code) << each.word;
    EXPECT_EQ(found.ok() ? *found : nullptr, each.found) << each.word;
  }
  const std::string sentence(Message(isolates.Find("aaa").status()));
  EXPECT_THAT(sentence, HasSubstr(a->id));
  EXPECT_THAT(sentence, HasSubstr(b->id));
}

TEST(IsolatesTest, ManyCandidatesAreNotAllListed) {
  Isolates isolates;
  for (int i = 0; i < 7; ++i) isolates.Add("").value()->id = fmt::format("aaa{}00000000", i);
  const std::string sentence(Message(isolates.Find("aaa").status()));
  EXPECT_THAT(sentence, HasSubstr("7 isolates"));
  EXPECT_THAT(sentence, HasSubstr("aaa400000000, ..."));
}

TEST(IsolatesTest, ANameGoesBeforeTheBeginningOfAnId) {
  Isolates isolates;
  Isolate* const by_id = isolates.Add("").value();
  by_id->id = "abc000000000";
  Isolate* const by_name = isolates.Add("abc").value();
  by_name->id = "000000000000";
  EXPECT_EQ(isolates.Find("abc").value(), by_name);
}

TEST(IsolatesTest, TheOldestThatHaveEndedAreForgotten) {
  Isolates isolates({.told = 3});
  Isolate* const living = isolates.Add("living").value();
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    Isolate* const isolate = isolates.Add("").value();
    ids.push_back(isolate->id);
    isolates.End(*isolate);
  }
  EXPECT_EQ(isolates.all().size(), 4U);
  EXPECT_EQ(isolates.living(), 1U);
  EXPECT_EQ(isolates.Find("living").value(), living);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(isolates.Find(ids[i]).ok(), i >= 2) << i;
}

TEST(IsolatesTest, WhatEndedFirstIsForgottenFirstHoweverLongItRan) {
  Isolates isolates({.told = 2});
  Isolate* const longest = isolates.Add("long").value();
  for (int i = 0; i < 5; ++i) isolates.End(*isolates.Add("").value());
  const std::string id = longest->id;
  isolates.End(*longest);
  ASSERT_NE(isolates.ById(id), nullptr) << "it has only just ended";
  isolates.End(*isolates.Add("").value());
  isolates.End(*isolates.Add("").value());
  EXPECT_EQ(isolates.ById(id), nullptr);
}

TEST(IsolatesTest, ADetachedOneIsKeptUntilSomebodyWasTold) {
  Isolates isolates({.told = 2, .unclaimed = 3});
  Isolate* const job = isolates.Add("job").value();
  job->detached = true;
  isolates.End(*job);
  for (int i = 0; i < 10; ++i) isolates.End(*isolates.Add("").value());
  ASSERT_EQ(isolates.Find("job").value(), job);
  isolates.Told(*job);
  const std::string id = job->id;
  for (int i = 0; i < 2; ++i) isolates.End(*isolates.Add("").value());
  for (const std::string& word : {std::string("job"), id, id.substr(0, 6)}) {
    EXPECT_THAT(std::string(Message(isolates.Find(word).status())), HasSubstr("forgotten")) << word;
  }
  EXPECT_THAT(std::string(Message(isolates.Find("bob").status())),
              HasSubstr("there is no isolate"));
}

TEST(IsolatesTest, DetachedOnesAreBoundedToo) {
  Isolates isolates({.told = 2, .unclaimed = 3});
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    Isolate* const isolate = isolates.Add("").value();
    isolate->detached = true;
    ids.push_back(isolate->id);
    isolates.End(*isolate);
  }
  for (int i = 0; i < 5; ++i) EXPECT_EQ(isolates.Find(ids[i]).ok(), i >= 2) << i;
  EXPECT_THAT(std::string(Message(isolates.Find(ids[0]).status())), HasSubstr("max-unclaimed"));
}

TEST(IsolatesTest, ANameThatLooksLikeAnIdIsRefused) {
  Isolates isolates;
  EXPECT_FALSE(isolates.Add("0123456789ab").ok());
  EXPECT_TRUE(isolates.Add("0123456789abc").ok());
  EXPECT_TRUE(isolates.Add("0123456789aB").ok());
}

TEST(IsolatesTest, TheEndIsTold) {
  Isolates isolates({.told = 0});  // kept until told
  Isolate* const isolate = isolates.Add("").value();
  int calls = 0;
  const int owners[2] = {};
  for (const int& owner : owners) {
    isolate->on_end.push_back({&owner, [&](const Isolate& ended) {
                                 ++calls;
                                 EXPECT_EQ(&owner, &owners[0]) << "the other one is gone";
                                 EXPECT_EQ(ended.state, IsolateState::kEnded);
                                 return true;
                               }});
  }
  isolates.DropOnEnd(&owners[1]);
  isolates.End(*isolate);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(isolates.all().empty());
}

TEST(IsolatesTest, OneThatCameToNothingIsTakenAway) {
  Isolates isolates;
  isolates.Remove(*isolates.Add("web").value());
  EXPECT_TRUE(isolates.all().empty());
  EXPECT_EQ(isolates.living(), 0U);
  EXPECT_TRUE(isolates.Add("web").ok());
}

}  // namespace
}  // namespace brood
