// SPDX-License-Identifier: Apache-2.0

// What became of a call, as logs and statistics have it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace brood {

struct CallReport {
  std::string function;
  std::string id = {};  // of the call; empty: of none, but of an isolate
  int status = 0;       // 0: the caller had gone
  // One word, Brood-End; empty: it went well. "process": an isolate that serves many calls, or
  // waited for its first, has ended by itself.
  std::string end = {};
  std::string message = {};   // a sentence
  std::string err = {};       // the last bytes of its stderr
  std::string path = {};      // how its isolate came to be (CallTimes); empty: it had none
  std::int64_t total_us = 0;  // from the request's head on
  std::int64_t time_ms = 0;   // since the epoch
  std::string user = {};      // whose token it came with
  std::string method = {};    // of its request
  std::string target = {};
};

// Called once for each call that is over, and for isolates. Only in the pool's thread.
using CallSink = std::function<void(CallReport)>;

}  // namespace brood
