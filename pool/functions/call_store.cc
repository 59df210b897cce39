// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood {
namespace {

// FULL: a commit is on the disk when it returns, also in a write-ahead log. EXCLUSIVE: a second
// daemon would run everything once more.
constexpr const char* kSettings =
    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

constexpr int kVersion = 3;
constexpr const char* kSchema = R"(
  CREATE TABLE calls (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0,
    request TEXT,
    body BLOB,
    status INTEGER,
    fields TEXT,
    output BLOB,
    truncated INTEGER,
    err BLOB);
  CREATE INDEX calls_by_end ON calls (ended) WHERE ended > 0;
  PRAGMA user_version = 3;)";
// Version 1 kept no more of a request than its body; version 2 no stderr.
constexpr const char* kFromVersion1 = "ALTER TABLE calls ADD COLUMN request TEXT";
constexpr const char* kFromVersion2 =
    "ALTER TABLE calls ADD COLUMN err BLOB; PRAGMA user_version = 3;";

constexpr const char* kSql[] = {
    "INSERT INTO calls (id, function, request, body, accepted, state) "
    "VALUES (?, ?, ?, ?, ?, 'waiting')",
    "UPDATE calls SET state = 'running', attempts = attempts + 1, started = ?2 WHERE id = ?1",
    "SELECT request, body FROM calls WHERE id = ?",
    "UPDATE calls SET state = 'waiting', attempts = attempts - 1, started = 0 WHERE id = ?",
    "UPDATE calls SET state = 'done', ended = ?2, status = ?3, fields = ?4, output = ?5, "
    "truncated = ?6, err = ?7, request = NULL, body = NULL WHERE id = ?1",
    "UPDATE calls SET state = 'cancelled', ended = ?2, request = NULL, body = NULL WHERE id = ?1",
    "SELECT id, function, state, attempts, accepted, started, ended, status, fields, output, "
    "truncated, err FROM calls WHERE id = ?",
    "SELECT id, function, state, attempts, accepted, started, ended FROM calls "
    "ORDER BY number DESC LIMIT ?",
    "DELETE FROM calls WHERE ended > 0 AND ended < ?",
};

void BindValue(sqlite3_stmt* query, int at, std::string_view text) {
  sqlite3_bind_text(query, at, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
}

void BindBytes(sqlite3_stmt* query, int at, std::string_view bytes) {
  // A null pointer would be NULL, not an empty blob.
  sqlite3_bind_blob(query, at, bytes.empty() ? "" : bytes.data(), static_cast<int>(bytes.size()),
                    SQLITE_STATIC);
}

std::string Column(sqlite3_stmt* query, int at) {
  const auto* const bytes = static_cast<const char*>(sqlite3_column_blob(query, at));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(query, at));
  return bytes == nullptr ? std::string() : std::string(bytes, size);
}

// The first columns of a call, without its result.
StoredCall CallOf(sqlite3_stmt* query) {
  StoredCall call;
  call.id = Column(query, 0);
  call.function = Column(query, 1);
  call.state = Column(query, 2);
  call.attempts = sqlite3_column_int(query, 3);
  call.accepted_us = sqlite3_column_int64(query, 4);
  call.started_us = sqlite3_column_int64(query, 5);
  call.ended_us = sqlite3_column_int64(query, 6);
  return call;
}

// Makes a query ready for its next use, whichever way this one ends.
class Use {
 public:
  explicit Use(sqlite3_stmt* query) : query_(query) {}
  ~Use() {
    sqlite3_reset(query_);
    sqlite3_clear_bindings(query_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  sqlite3_stmt* get() const { return query_; }

 private:
  sqlite3_stmt* query_;
};

absl::Status MakeFile(const std::string& path) {
  if (const std::size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0) {
    mkdir(path.substr(0, slash).c_str(), 0755);
  }
  // What callers have sent and been answered is nobody else's; the log beside it gets the same
  // mode.
  const UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoError(errno, "opening the calls' file {}", path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CallStore>> CallStore::Open(const std::string& path) {
  BROOD_RETURN_IF_ERROR(MakeFile(path));
  sqlite3* database = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &database,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<CallStore> store(new CallStore(database));
  absl::Status status = opened == SQLITE_OK ? absl::OkStatus() : store->Fault("opening it");
  if (status.ok()) status = store->Run(kSettings);
  if (status.ok()) status = store->Prepare();
  if (status.ok()) return store;
  if (database != nullptr && sqlite3_errcode(database) == SQLITE_BUSY) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the calls' file {} is in use by another daemon; each needs one of its own", path);
  }
  return Error(status.code(), "the calls' file {}: {}", path, Message(status));
}

CallStore::~CallStore() {
  for (sqlite3_stmt* const query : queries_) sqlite3_finalize(query);
  sqlite3_close(database_);
}

absl::Status CallStore::Fault(std::string_view what) const {
  const int code = database_ == nullptr ? SQLITE_NOMEM : sqlite3_errcode(database_);
  const bool full = code == SQLITE_FULL || code == SQLITE_NOMEM;
  return Error(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
               "{}: {}{}", what, database_ == nullptr ? "out of memory" : sqlite3_errmsg(database_),
               code == SQLITE_FULL ? "; make room on its disk" : "");
}

absl::Status CallStore::Run(const char* sql) {
  if (sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) {
    return absl::OkStatus();
  }
  return Fault("using it");
}

absl::Status CallStore::Prepare() {
  // A transaction takes the lock, which is then kept; without one, it is taken by the first to
  // write.
  BROOD_RETURN_IF_ERROR(Run("BEGIN EXCLUSIVE"));
  sqlite3_stmt* query = nullptr;
  if (sqlite3_prepare_v2(database_, "PRAGMA user_version", -1, &query, nullptr) != SQLITE_OK) {
    return Fault("reading its version");
  }
  const bool row = sqlite3_step(query) == SQLITE_ROW;
  const int version = row ? sqlite3_column_int(query, 0) : -1;
  sqlite3_finalize(query);
  if (!row) return Fault("reading its version");
  if (version == 0) BROOD_RETURN_IF_ERROR(Run(kSchema));
  if (version == 1) BROOD_RETURN_IF_ERROR(Run(kFromVersion1));
  if (version == 1 || version == 2) BROOD_RETURN_IF_ERROR(Run(kFromVersion2));
  if (version > kVersion) {
    return Error(absl::StatusCode::kFailedPrecondition, "a newer brood has written it");
  }
  BROOD_RETURN_IF_ERROR(Run("COMMIT"));
  for (int i = 0; i < kQueries; ++i) {
    if (sqlite3_prepare_v3(database_, kSql[i], -1, SQLITE_PREPARE_PERSISTENT, &queries_[i],
                           nullptr) != SQLITE_OK) {
      return Fault("preparing its queries");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CallStore::Waiting>> CallStore::Recover(std::int64_t now_us) {
  BROOD_RETURN_IF_ERROR(Begin());
  const std::string lost = fmt::format(
      "UPDATE calls SET state = 'given-up', ended = {0}, request = NULL, body = NULL "
      "WHERE state = 'running' AND attempts >= {1};"
      "UPDATE calls SET state = 'waiting' WHERE state = 'running'",
      now_us, kMaxAttempts);
  absl::Status status = Run(lost.c_str());
  if (status.ok()) status = Commit();
  if (!status.ok()) {
    Rollback();
    return status;
  }
  sqlite3_stmt* query = nullptr;
  if (sqlite3_prepare_v2(database_,
                         "SELECT id, function FROM calls WHERE state = 'waiting' ORDER BY number",
                         -1, &query, nullptr) != SQLITE_OK) {
    return Fault("reading what waits");
  }
  std::vector<Waiting> waiting;
  int step = sqlite3_step(query);
  for (; step == SQLITE_ROW; step = sqlite3_step(query)) {
    waiting.push_back({Column(query, 0), Column(query, 1)});
  }
  sqlite3_finalize(query);
  if (step != SQLITE_DONE) return Fault("reading what waits");
  return waiting;
}

absl::Status CallStore::Add(const std::string& id, const std::string& function,
                            const KeptRequest& request, std::int64_t now_us) {
  const Use query(queries_[kAdd]);
  BindValue(query.get(), 1, id);
  BindValue(query.get(), 2, function);
  BindValue(query.get(), 3, request.head);
  BindBytes(query.get(), 4, request.body);
  sqlite3_bind_int64(query.get(), 5, now_us);
  return sqlite3_step(query.get()) == SQLITE_DONE ? absl::OkStatus() : Fault("keeping a call");
}

absl::StatusOr<KeptRequest> CallStore::Start(const std::string& id, std::int64_t now_us) {
  {
    const Use query(queries_[kStart]);
    BindValue(query.get(), 1, id);
    sqlite3_bind_int64(query.get(), 2, now_us);
    if (sqlite3_step(query.get()) != SQLITE_DONE) return Fault("beginning a call");
  }
  const Use query(queries_[kBody]);
  BindValue(query.get(), 1, id);
  const int step = sqlite3_step(query.get());
  if (step == SQLITE_ROW) return KeptRequest{Column(query.get(), 0), Column(query.get(), 1)};
  if (step != SQLITE_DONE) return Fault("reading a call");
  return Error(absl::StatusCode::kNotFound, "call {} is gone", id);
}

absl::Status CallStore::PutBack(const std::string& id) {
  const Use query(queries_[kPutBack]);
  BindValue(query.get(), 1, id);
  return sqlite3_step(query.get()) == SQLITE_DONE ? absl::OkStatus() : Fault("putting a call back");
}

absl::Status CallStore::Finish(const std::string& id, const CallResult& result,
                               std::int64_t now_us) {
  const Use query(queries_[kFinish]);
  BindValue(query.get(), 1, id);
  sqlite3_bind_int64(query.get(), 2, now_us);
  sqlite3_bind_int(query.get(), 3, result.status);
  BindValue(query.get(), 4, result.fields);
  BindBytes(query.get(), 5, result.output);
  sqlite3_bind_int(query.get(), 6, result.truncated ? 1 : 0);
  BindBytes(query.get(), 7, result.err);
  return sqlite3_step(query.get()) == SQLITE_DONE ? absl::OkStatus() : Fault("ending a call");
}

absl::Status CallStore::Cancel(const std::string& id, std::int64_t now_us) {
  const Use query(queries_[kCancel]);
  BindValue(query.get(), 1, id);
  sqlite3_bind_int64(query.get(), 2, now_us);
  return sqlite3_step(query.get()) == SQLITE_DONE ? absl::OkStatus() : Fault("cancelling a call");
}

absl::StatusOr<std::vector<StoredCall>> CallStore::List(std::size_t most) {
  const Use query(queries_[kList]);
  sqlite3_bind_int64(query.get(), 1, static_cast<std::int64_t>(most));
  std::vector<StoredCall> calls;
  int step = sqlite3_step(query.get());
  for (; step == SQLITE_ROW; step = sqlite3_step(query.get())) {
    calls.push_back(CallOf(query.get()));
  }
  if (step != SQLITE_DONE) return Fault("listing calls");
  return calls;
}

absl::StatusOr<std::optional<StoredCall>> CallStore::Find(const std::string& id) {
  const Use query(queries_[kFind]);
  BindValue(query.get(), 1, id);
  const int step = sqlite3_step(query.get());
  if (step == SQLITE_DONE) return std::nullopt;
  if (step != SQLITE_ROW) return Fault("reading a call");
  StoredCall call = CallOf(query.get());
  if (call.state == kCallDone) {
    call.result = CallResult{sqlite3_column_int(query.get(), 7), Column(query.get(), 8),
                             Column(query.get(), 9), sqlite3_column_int(query.get(), 10) != 0,
                             Column(query.get(), 11)};
  }
  return call;
}

absl::Status CallStore::RemoveEnded(std::int64_t before_us) {
  const Use query(queries_[kRemove]);
  sqlite3_bind_int64(query.get(), 1, before_us);
  return sqlite3_step(query.get()) == SQLITE_DONE ? absl::OkStatus() : Fault("removing calls");
}

}  // namespace brood
