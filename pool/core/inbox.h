// SPDX-License-Identifier: Apache-2.0

// What other threads hand to the pool's own thread: requests, and small tasks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
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
  // Refuses everything from now on.
  void Close();

  // The pool's thread: takes all there is.
  struct Contents {
    std::vector<std::unique_ptr<ActiveRequest>> requests;
    std::vector<Task> tasks;
    std::vector<Used> used;
    bool closed = false;
  };
  Contents Take();

  // Readable when something was put since the last Take.
  int fd() const { return event_.get(); }

 private:
  void Signal();

  std::mutex mutex_;
  Contents contents_;
  bool signalled_ = false;  // the eventfd is readable: no need to write again
  UniqueFd event_;
};

}  // namespace brood
