// SPDX-License-Identifier: Apache-2.0

// The thread in which the store of calls is used, so that no disk holds the pool's thread up.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/status.h"
#include "pool/functions/call_store.h"
#include "pool/pool.h"

namespace brood {

// Work is done in the order in which it was added; what has gathered meanwhile is one transaction,
// so that a slow disk makes more calls wait together, not each for the one before.
class CallStoreThread {
 public:
  // May be done again when the transaction it was in has failed.
  using Work = std::function<absl::Status(CallStore&)>;
  // Called in the pool's thread, once the work is durable or has failed; never after the pool's
  // end.
  using Done = std::function<void(absl::Status)>;

  CallStoreThread(Pool& pool, std::unique_ptr<CallStore> store)
      : pool_(pool), store_(std::move(store)) {}
  // Does what was added, then ends.
  ~CallStoreThread();

  absl::Status Start();
  // Any thread.
  void Add(Work work, Done done);

 private:
  struct Job {
    Work work;
    Done done;
    absl::Status status;
  };
  void Loop();
  void DoTogether(std::deque<Job>& jobs);

  Pool& pool_;
  std::unique_ptr<CallStore> store_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace brood
