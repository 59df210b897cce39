// SPDX-License-Identifier: Apache-2.0

// Calls whose callers do not wait: accepted once they are on disk, run when there is room.
//
//   POST -> AsyncBody -> store -> 202      waiting -> store (running) -> RecordedCall -> store
//   (done) GET /calls/ID -> store -> state and result
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/functions/call_store_thread.h"
#include "pool/functions/function.h"
#include "pool/functions/recorded_call.h"
#include "pool/functions/running_calls.h"
#include "pool/http/connection.h"
#include "pool/pool.h"

namespace brood {

// What was accepted is run at least once, even if the daemon is killed, and the result is kept for
// a while. Only in the pool's thread but for Open and the end, which come before and after. Must
// live until the pool has been shut down.
class AsyncCalls {
 public:
  static constexpr std::uint64_t kMaxBody = 1U << 20;       // of one call
  static constexpr std::uint64_t kMaxBodies = 64ULL << 20;  // of all that are not on disk yet

  struct Options {
    std::chrono::nanoseconds keep;  // what has ended
    std::uint32_t max_calls = 0;    // that wait or run
    CallSink log;
    std::function<void(std::string_view)> complain;  // about the disk
    RunningCalls* running;                           // where calls are noted
  };
  // Null when the server knows no such function.
  using FindFunction = std::function<std::shared_ptr<FunctionPool>(const std::string&)>;

  AsyncCalls(Pool& pool, Timers& timers, Options options)
      : pool_(pool), timers_(timers), options_(std::move(options)) {}

  // Finds what an earlier daemon has left.
  absl::Status Open(std::unique_ptr<CallStore> store);
  // Runs what waits, from now on.
  void Start(FindFunction find);
  // Starts no more; what runs ends. What waits is for the next daemon.
  void Drain() { draining_ = true; }
  bool idle() const { return closed_ || busy_ == 0; }
  // Ends what runs, which then counts as not done.
  void Close();

  // Answers the request, later; null when it has been answered at once.
  std::shared_ptr<Exchange> Accept(HttpConnection& connection, const RequestHead& head,
                                   std::string_view path, const FunctionOptions& function);
  // `may_know`: whether the caller may know of a function's calls; null: of all.
  std::shared_ptr<Exchange> Tell(HttpConnection& connection, const std::string& id,
                                 std::function<bool(const std::string& function)> may_know);

  // Answers with the latest that are kept.
  std::shared_ptr<Exchange> TellAll(HttpConnection& connection);

  // The function of one that waits; null: none of that id does.
  const std::string* FunctionOf(std::string_view id) const;
  // Takes one that waits away, and answers.
  std::shared_ptr<Exchange> Cancel(HttpConnection& connection, const std::string& id);
  std::size_t waiting() const { return waiting_; }
  std::size_t running() const { return busy_; }

 private:
  class AsyncBody;
  struct Queue {
    std::deque<std::string> ids;
    std::uint32_t begun = 0;
  };

  void Keep(const std::shared_ptr<AsyncBody>& body);
  void Pump();
  bool HasRoom(const Queue& queue, const FunctionPool& function) const;
  void Begin(const std::string& name, const std::string& id);
  void Run(const std::string& name, const std::string& id, const KeptRequest& request);
  void PutBack(const std::string& name, const std::string& id);
  void Finish(const std::string& name, const std::string& id, const CallResult& result);
  // Until the disk takes it.
  void Insist(const CallStoreThread::Work& work, std::function<void()> then);
  void Sweep();
  void Tick();

  Pool& pool_;
  Timers& timers_;
  Options options_;
  FindFunction find_;
  std::map<std::string, Queue, std::less<>> queues_;           // by function
  std::map<std::string, std::shared_ptr<RecordedCall>> runs_;  // by id
  std::size_t waiting_ = 0;
  std::size_t accepting_ = 0;  // being received or written
  std::uint64_t bodies_ = 0;   // bytes that those may have
  std::size_t busy_ = 0;       // from its beginning until its end is on disk
  bool draining_ = false;
  bool closed_ = false;
  std::unique_ptr<CallStoreThread> store_;  // last: what it holds uses the others
};

}  // namespace brood
