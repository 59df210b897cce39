// SPDX-License-Identifier: Apache-2.0

// What other threads hand to the pool's own thread: requests, and small tasks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/worker.h"
#include "spawn/base/unique_fd.h"

namespace brood {

class Reactor;

class Inbox {
 public:
  using Task = std::function<void(Reactor&)>;

  absl::Status Open();  // makes the eventfd
  // The calling thread is the pool's. What it puts here itself takes no lock and wakes nobody: it
  // is there when the thread looks, which HasOwn says that it has to.
  void BelongsToThisThread() { owner_ = std::this_thread::get_id(); }

  // Any thread. False once closed; nothing was queued then. A request that its caller has launched
  // is always taken.
  bool Put(std::unique_ptr<ActiveRequest> request);
  bool Put(Task task);
  // A worker that its caller has launched and reaped. Always taken: the pool waits for it.
  struct Used {
    std::uint32_t worker = 0;
    KeptNamespaces kept;
    bool leaf_spoilt = false;  // not fit for another worker
  };
  void Put(Used used);
  // The pool's thread: refuses everything from now on.
  void Close();

  // The pool's thread: takes all there is.
  struct Contents {
    std::vector<std::unique_ptr<ActiveRequest>> requests;
    std::vector<Task> tasks;
    std::vector<Used> used;
  };
  Contents Take();
  // Whether it has put something here itself since it last took.
  bool HasOwn() const {
    return !own_.requests.empty() || !own_.tasks.empty() || !own_.used.empty();
  }

  // Readable when something was put since the last Take.
  int fd() const { return event_.get(); }

 private:
  void Signal();
  bool InOwnThread() const { return std::this_thread::get_id() == owner_; }

  std::thread::id owner_;  // set before anything else of it is called by two threads
  Contents own_;           // for the owner alone
  std::mutex mutex_;
  Contents contents_;
  bool closed_ = false;     // written by the owner, with the mutex held
  bool signalled_ = false;  // the eventfd is readable: no need to write again
  UniqueFd event_;
};

}  // namespace brood
