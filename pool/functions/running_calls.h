// SPDX-License-Identifier: Apache-2.0

// The calls that wait or run, by their ids: to be listed, and to be ended by whoever may.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "pool/functions/call_report.h"
#include "pool/http/connection.h"
#include "pool/http/request_parser.h"

namespace brood {

// Only in the pool's thread. Holds no call.
class RunningCalls {
 public:
  // Before it is started, so that what is told of its end can say what it was.
  void Add(const RequestHead& head, std::string function);
  void Started(const std::string& id, const std::shared_ptr<Exchange>& call);
  // Null when no such call waits or runs.
  const std::string* FunctionOf(std::string_view id);
  // Its caller is told that it was killed. False: there is no such call.
  bool Kill(std::string_view id);
  // [{"id": ..., "function": ..., "user": ..., "seconds": ...}], the oldest first.
  std::string ToJson();
  // Puts into a report what the call's request was.
  void Describe(CallReport& report) const;

 private:
  struct Entry {
    std::string function;
    std::string user;
    std::string method;
    std::string target;
    std::int64_t since_ns = 0;
    std::weak_ptr<Exchange> call = {};
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  Entries::iterator Find(std::string_view id);
  void Forget();

  Entries entries_;
  std::size_t forget_at_ = 64;  // entries, of which many may be over
};

}  // namespace brood
