// SPDX-License-Identifier: Apache-2.0

// Jobs that take their time, beside the thread that asks for them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/status/status.h"

namespace brood {

// Runs jobs one after the other, in a thread of its own. Those that have not begun when it is
// destroyed are dropped. Add may be called by any thread.
class JobThread {
 public:
  JobThread() = default;
  ~JobThread();

  absl::Status Start();
  void Add(std::function<void()> job);

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace brood
