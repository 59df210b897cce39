// SPDX-License-Identifier: Apache-2.0

// What stands between an isolate whose command speaks a protocol and the calls that it serves:
// LambdaRuntime, which the command asks for its calls, or HttpRuntime, which calls it.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace brood {

// Only in the pool's thread. Held by its worker.
class Runtime {
 public:
  Runtime() = default;
  virtual ~Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Calls that may be given to it now, beside those that it has.
  virtual std::size_t room() const = 0;
  // It can serve no more calls: it has failed in a manner that leaves its state unknown.
  virtual bool failed() const = 0;
  // What it said was wrong before its first call, in the JSON of Lambda's errors; mostly empty.
  virtual const std::string& error() const = 0;
  // Its isolate has ended.
  virtual void OnWorkerEnded() = 0;

  std::function<void()> on_room;  // it has room, and had none
  // It has failed; or its call is over, where it is the runtime that knows.
  std::function<void()> on_over;
};

}  // namespace brood
