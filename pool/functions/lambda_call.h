// SPDX-License-Identifier: Apache-2.0

// One call of a custom runtime: its event, and the way of its response to whoever called.
//
//   the call's body   -> input -> event   -> LambdaRuntime -> the isolate
//   the call's output <- output <- pending <- LambdaRuntime <- the isolate
//
// To the call it is what any function's stdin and stdout are: it holds the other ends of the pipes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "pool/core/watched.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

struct FunctionWorker;

// Only in the pool's thread. Held by its worker, and by the runtime that serves it.
class LambdaCall : public std::enable_shared_from_this<LambdaCall> {
 public:
  static constexpr std::size_t kMaxPending = 64U << 10;  // bytes of a response that wait for room

  enum class Stage : std::uint8_t {
    kWaiting,    // its event has not been given to anybody
    kCalled,     // it has
    kAnswering,  // its response is coming
    kAnswered,
    kFailed,
  };

  // `input`: where the body comes from; `output`: where the answer goes. Both are not to block.
  LambdaCall(Pool& pool, std::weak_ptr<FunctionWorker> worker, UniqueFd input, UniqueFd output);
  ~LambdaCall();
  LambdaCall(const LambdaCall&) = delete;
  LambdaCall& operator=(const LambdaCall&) = delete;

  // Begins to read the event.
  void Open();

  Stage stage() const { return stage_; }
  bool answered() const { return stage_ == Stage::kAnswered; }
  bool over() const { return stage_ >= Stage::kAnswered; }
  // What went wrong, in the JSON of Lambda's errors; empty: nothing that it or we know of.
  const std::string& error() const { return error_; }
  // Bytes of the event that nobody has been shown.
  std::size_t unseen() const;
  // Null once nobody waits for it.
  std::shared_ptr<FunctionWorker> worker() const { return worker_.lock(); }

  // For the runtime that serves it.
  bool event_whole() const { return event_whole_; }
  // What it is called with.
  const std::string& Call();
  // It is known that the event has not been read, at least not whole.
  void OnUnread();
  void BeginAnswer();
  void Write(std::string_view bytes);
  bool full() const { return pending_.size() >= kMaxPending; }
  void Succeed();
  // False when it is over already.
  bool Fail(std::string error);
  // Whoever served it is gone. What a response still owes is written to its end.
  void OnServerGone();

  std::function<void()> on_event;  // it is whole
  std::function<void()> on_room;   // no longer full

 private:
  void ReadInput();
  void Flush();
  void WatchInput(bool on);
  void WatchOutput(bool on);

  const std::weak_ptr<FunctionWorker> worker_;
  Stage stage_ = Stage::kWaiting;
  UniqueFd input_, output_;
  Watched input_watch_, output_watch_;
  std::string event_;
  bool event_whole_ = false;
  std::string pending_;  // of the response, for output_
  std::string error_;
};

}  // namespace brood
