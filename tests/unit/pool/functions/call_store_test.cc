// SPDX-License-Identifier: Apache-2.0

// Calls on disk: what is kept, what a daemon that died leaves to the next, and what is told.
#include "pool/functions/call_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pool/functions/call_json.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kKeptHead = R"({"method": "PUT"})";

class CallStoreTest : public ::testing::Test {
 protected:
  CallStoreTest() {
    std::string name = ::testing::TempDir() + "brood_calls_XXXXXX";
    directory_ = mkdtemp(name.data());
    path_ = directory_ + "/calls.sqlite";
  }
  ~CallStoreTest() override {
    store_.reset();
    for (const char* const end : {"", "-wal", "-journal"}) unlink((path_ + end).c_str());
    rmdir(directory_.c_str());
  }

  void Open() {
    store_.reset();
    auto store = CallStore::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  // The ids that wait, by what Recover says.
  std::vector<std::string> Recovered(std::int64_t now_us = 9) {
    Open();
    const auto waiting = store_->Recover(now_us);
    EXPECT_TRUE(waiting.ok()) << waiting.status();
    std::vector<std::string> ids;
    if (waiting.ok()) {
      for (const auto& each : *waiting) ids.push_back(each.id + " of " + each.function);
    }
    return ids;
  }
  StoredCall Found(const std::string& id) {
    const auto found = store_->Find(id);
    EXPECT_TRUE(found.ok() && *found) << id;
    return found.ok() && *found ? **found : StoredCall();
  }

  std::string directory_;
  std::string path_;
  std::unique_ptr<CallStore> store_;
};

TEST_F(CallStoreTest, TheWayOfACall) {
  Open();
  const std::string body("a\0b", 3);
  ASSERT_TRUE(store_->Add("x", "echo", {kKeptHead, body}, 1).ok());
  EXPECT_EQ(Found("x").state, kCallWaiting);
  EXPECT_EQ(Found("x").accepted_us, 1);
  const auto started = store_->Start("x", 2);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(started->head, kKeptHead);
  EXPECT_EQ(started->body, body);
  EXPECT_EQ(Found("x").state, kCallRunning);
  EXPECT_EQ(Found("x").attempts, 1);
  ASSERT_TRUE(store_->Finish("x", {200, "{}", body, true}, 3).ok());
  const StoredCall done = Found("x");
  EXPECT_EQ(done.state, kCallDone);
  EXPECT_EQ(done.started_us, 2);
  EXPECT_EQ(done.ended_us, 3);
  ASSERT_TRUE(done.result);
  EXPECT_EQ(done.result->status, 200);
  EXPECT_EQ(done.result->output, body);
  EXPECT_TRUE(done.result->truncated);
}

// A file of version 1, which kept bodies alone.
TEST_F(CallStoreTest, ReadsWhatAnOlderOneHasKept) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database,
                         "CREATE TABLE calls (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "
                         "function TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL "
                         "DEFAULT 0, accepted INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT "
                         "0, ended INTEGER NOT NULL DEFAULT 0, body BLOB, status INTEGER, fields "
                         "TEXT, output BLOB, truncated INTEGER); INSERT INTO calls (id, function, "
                         "state, accepted, body) VALUES ('x', 'echo', 'waiting', 1, 'old'); "
                         "PRAGMA user_version = 1;",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  EXPECT_THAT(Recovered(), ElementsAre("x of echo"));
  const auto started = store_->Start("x", 2);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(started->head, "");
  EXPECT_EQ(started->body, "old");
  ASSERT_TRUE(store_->Add("y", "echo", {kKeptHead, ""}, 3).ok());
  EXPECT_EQ(store_->Start("y", 4)->head, kKeptHead);
}

TEST_F(CallStoreTest, WhatCouldNotBeBegunIsNoAttempt) {
  Open();
  ASSERT_TRUE(store_->Add("x", "echo", {kKeptHead, ""}, 1).ok());
  ASSERT_TRUE(store_->Start("x", 2).ok());
  ASSERT_TRUE(store_->PutBack("x").ok());
  EXPECT_EQ(Found("x").state, kCallWaiting);
  EXPECT_EQ(Found("x").attempts, 0);
  EXPECT_EQ(Found("x").started_us, 0);
}

TEST_F(CallStoreTest, WhatRanWaitsAgainUntilItIsGivenUp) {
  Open();
  ASSERT_TRUE(store_->Add("a", "one", {kKeptHead, "body"}, 1).ok());
  ASSERT_TRUE(store_->Add("b", "two", {kKeptHead, ""}, 2).ok());
  ASSERT_TRUE(store_->Add("c", "one", {kKeptHead, ""}, 3).ok());
  ASSERT_TRUE(store_->Start("c", 3).ok());
  ASSERT_TRUE(store_->Finish("c", {500, "{}", "", false}, 4).ok());
  for (int attempt = 1; attempt < CallStore::kMaxAttempts; ++attempt) {
    const auto body = store_->Start("a", 5);
    ASSERT_TRUE(body.ok());
    EXPECT_EQ(body->body, "body");
    EXPECT_THAT(Recovered(), ElementsAre("a of one", "b of two"));
  }
  ASSERT_TRUE(store_->Start("a", 5).ok());
  EXPECT_THAT(Recovered(77), ElementsAre("b of two"));
  EXPECT_EQ(Found("a").state, kCallGivenUp);
  EXPECT_EQ(Found("a").attempts, CallStore::kMaxAttempts);
  EXPECT_EQ(Found("a").ended_us, 77);
  EXPECT_FALSE(Found("a").result);
}

TEST_F(CallStoreTest, OnlyWhatHasEndedIsRemoved) {
  Open();
  for (const char* const id : {"old", "new", "waits", "runs"}) {
    ASSERT_TRUE(store_->Add(id, "echo", {kKeptHead, ""}, 1).ok());
  }
  ASSERT_TRUE(store_->Start("runs", 2).ok());
  ASSERT_TRUE(store_->Finish("old", {}, 10).ok());
  ASSERT_TRUE(store_->Finish("new", {}, 20).ok());
  ASSERT_TRUE(store_->RemoveEnded(20).ok());
  const auto old = store_->Find("old");
  ASSERT_TRUE(old.ok());
  EXPECT_FALSE(*old);
  for (const char* const id : {"new", "waits", "runs"}) EXPECT_EQ(Found(id).id, id);
}

TEST_F(CallStoreTest, WhatWasNotCommittedIsNotThere) {
  Open();
  ASSERT_TRUE(store_->Begin().ok());
  ASSERT_TRUE(store_->Add("x", "echo", {kKeptHead, ""}, 1).ok());
  store_->Rollback();
  EXPECT_THAT(Recovered(), IsEmpty());
}

TEST_F(CallStoreTest, TheFileIsItsOwnersAlone) {
  Open();
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(CallStoreTest, WhatIsNoStoreIsNotTouched) {
  const std::string text(2000, 'x');
  std::ofstream(path_) << text;
  const auto store = CallStore::Open(path_);
  ASSERT_FALSE(store.ok());
  EXPECT_THAT(std::string(Message(store.status())), HasSubstr(path_));
  std::ifstream file(path_);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
  EXPECT_FALSE(CallStore::Open(directory_ + "/no/such/place").ok());
}

nlohmann::json Told(const std::string& output) {
  StoredCall call{"x", "echo", std::string(kCallDone), 1, 1'500'000, 2'000'000, 3'000'000, {}};
  call.result = CallResult{200, R"({"A": "b"})", output, false};
  return nlohmann::json::parse(CallToJson(call));
}

TEST(CallJsonTest, TextIsTextAndTheRestIsBase64) {
  EXPECT_EQ(Told("caf\xc3\xa9")["output"], "caf\xc3\xa9");
  EXPECT_EQ(Told("")["output"], "");
  EXPECT_FALSE(Told("x").contains("output_base64"));
  EXPECT_EQ(Told("\xff")["output_base64"], "/w==");
  EXPECT_EQ(Told("\xff\xfe")["output_base64"], "//4=");
  EXPECT_EQ(Told("\xff\xfe\xfd")["output_base64"], "//79");
  EXPECT_EQ(Told(std::string("\xff\0ab", 4))["output_base64"], "/wBhYg==");
  EXPECT_EQ(Told("x")["headers"]["A"], "b");
  EXPECT_EQ(Told("x")["accepted"], 1.5);
}

TEST(CallJsonTest, WhatHasNotHappenedIsNotTold) {
  const auto told = nlohmann::json::parse(
      CallToJson({"x", "echo", std::string(kCallWaiting), 0, 1'000'000, 0, 0, {}}));
  for (const char* const name : {"started", "ended", "status", "output"}) {
    EXPECT_FALSE(told.contains(name)) << name;
  }
}

}  // namespace
}  // namespace brood
