// SPDX-License-Identifier: Apache-2.0

// The latest calls of each function, with what they wrote to stderr: for those who ask, for those
// who follow, and for what is told of a function.
//
//   CallReport -> CallLog -> GET /logs, GET /functions
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pool/functions/call_report.h"
#include "pool/functions/running_calls.h"
#include "pool/http/connection.h"

namespace brood {

// Only in the pool's thread.
class CallLog {
 public:
  static constexpr std::size_t kReports = 512;           // kept of a function
  static constexpr std::size_t kErrorBytes = 256 << 10;  // of stderr in them
  static constexpr std::size_t kTimes = 1024;            // calls that rate and percentiles are of

  // `running` knows what the requests were.
  explicit CallLog(RunningCalls& running) : running_(running) {}

  // Of a call, or of an isolate. Returns it with what is known of its request.
  const CallReport& Add(CallReport report);

  // Answers with what is kept, one JSON object a line, the oldest first, and, with `follow`, with
  // what comes, until Close. `function`: empty for all.
  std::shared_ptr<Exchange> Tell(HttpConnection& connection, std::string function, bool follow);
  // Ends the answers to those who follow.
  void Close();

  // What the latest calls of a function were like.
  struct Recent {
    double per_second = 0;  // over ten seconds, or over what is known where that is less
    std::optional<std::int64_t> p50_us, p99_us;  // none: no calls
    const CallReport* last_error = nullptr;
  };
  Recent Of(std::string_view function) const;
  void Forget(const std::string& function) { functions_.erase(function); }

 private:
  class Follower;
  struct Time {
    std::int64_t ended_ns;
    std::int64_t total_us;
  };
  struct Function {
    std::deque<CallReport> reports;
    std::size_t error_bytes = 0;
    std::vector<Time> times;  // a ring, once it is full
    std::size_t next_time = 0;
    std::optional<CallReport> last_error;
  };

  RunningCalls& running_;
  std::map<std::string, Function, std::less<>> functions_;
  std::vector<std::weak_ptr<Follower>> followers_;
};

}  // namespace brood
