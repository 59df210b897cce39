// SPDX-License-Identifier: Apache-2.0

// Accepted calls on disk, in one SQLite file, so that none is lost with the daemon.
//
//   waiting -> running -> done
//    |  ^----------'  \--> given-up, when the daemon died under it kMaxAttempts times
//    '--> cancelled
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;
struct sqlite3_stmt;

namespace brood {

// Words of the state column, and of what callers are told.
inline constexpr std::string_view kCallWaiting = "waiting";
inline constexpr std::string_view kCallRunning = "running";
inline constexpr std::string_view kCallDone = "done";
inline constexpr std::string_view kCallGivenUp = "given-up";
inline constexpr std::string_view kCallCancelled = "cancelled";

struct KeptRequest {
  std::string head;  // as JSON (kept_head.h); empty: of an older brood, which kept none
  std::string body;
};

struct CallResult {
  int status = 0;
  std::string fields;  // of the answer, a JSON object
  std::string output;
  bool truncated = false;  // there was more output
  std::string err = {};    // the last of its stderr
};

struct StoredCall {
  std::string id;
  std::string function;
  std::string state;
  int attempts = 0;              // times that it was begun
  std::int64_t accepted_us = 0;  // since the epoch; so are the others
  std::int64_t started_us = 0;   // 0: not yet
  std::int64_t ended_us = 0;
  std::optional<CallResult> result;  // once done
};

// Not thread-safe. What is done between Begin and Commit is done together or not at all; a Commit
// that is OK survives a loss of power. Times are microseconds since the epoch.
class CallStore {
 public:
  static constexpr int kMaxAttempts = 5;

  // Makes the file, readable to its owner alone, where there is none. One daemon at a time:
  // kFailedPrecondition when another has it open.
  static absl::StatusOr<std::unique_ptr<CallStore>> Open(const std::string& path);
  ~CallStore();
  CallStore(const CallStore&) = delete;
  CallStore& operator=(const CallStore&) = delete;

  struct Waiting {
    std::string id;
    std::string function;
  };
  // What a daemon that died has left running waits again, or is given up. Returns all that waits,
  // oldest first.
  absl::StatusOr<std::vector<Waiting>> Recover(std::int64_t now_us);

  absl::Status Begin() { return Run("BEGIN IMMEDIATE"); }
  absl::Status Commit() { return Run("COMMIT"); }
  void Rollback() { (void)Run("ROLLBACK"); }

  absl::Status Add(const std::string& id, const std::string& function, const KeptRequest& request,
                   std::int64_t now_us);
  // It is running from now on; returns its request.
  absl::StatusOr<KeptRequest> Start(const std::string& id, std::int64_t now_us);
  // It could not be begun: it waits again, and the attempt does not count.
  absl::Status PutBack(const std::string& id);
  absl::Status Finish(const std::string& id, const CallResult& result, std::int64_t now_us);
  // It is not to be begun any more.
  absl::Status Cancel(const std::string& id, std::int64_t now_us);
  absl::StatusOr<std::optional<StoredCall>> Find(const std::string& id);
  // The latest, without their results, the one accepted last first.
  absl::StatusOr<std::vector<StoredCall>> List(std::size_t most);
  // Removes what has ended before.
  absl::Status RemoveEnded(std::int64_t before_us);

 private:
  explicit CallStore(sqlite3* database) : database_(database) {}
  absl::Status Run(const char* sql);
  absl::Status Fault(std::string_view what) const;
  absl::Status Prepare();

  enum Query : std::uint8_t {
    kAdd,
    kStart,
    kBody,
    kPutBack,
    kFinish,
    kCancel,
    kFind,
    kList,
    kRemove,
    kQueries
  };
  sqlite3* database_;
  sqlite3_stmt* queries_[kQueries] = {};
};

}  // namespace brood
