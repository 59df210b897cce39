// SPDX-License-Identifier: Apache-2.0

// One call: from the request's head to the answer's end.
//
//   body -> CallInput -> the worker's stdin      its stdout -> CgiHead -> held_ or the connection
//                        the worker's end -> CallEnd -> the connection and the log
//
// The answer is held back while it is short, so that its status can tell how the function ended;
// a longer one is streamed, and broken off when the function fails. Only in the pool's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pool/core/timers.h"
#include "pool/core/watched.h"
#include "pool/functions/call_end.h"
#include "pool/functions/call_input.h"
#include "pool/functions/call_place.h"
#include "pool/functions/call_report.h"
#include "pool/functions/call_times.h"
#include "pool/functions/cgi_head.h"
#include "pool/functions/error_tail.h"
#include "pool/functions/function_pool.h"
#include "pool/functions/lambda_event.h"
#include "pool/http/caller.h"
#include "pool/http/connection.h"
#include "pool/pool.h"

namespace brood {

class Call : public Exchange, public std::enable_shared_from_this<Call> {
 public:
  static constexpr std::size_t kMaxHeld = 64U << 10;     // bytes of the answer held back
  static constexpr std::chrono::milliseconds kBrief{1};  // what a brief call takes, at most

  Call(Pool& pool, Timers& timers, std::shared_ptr<FunctionPool> function, Caller& caller,
       CallSink log)
      : pool_(pool),
        timers_(timers),
        function_held_(std::move(function)),
        function_(*function_held_),
        connection_(&caller),
        log_(std::move(log)) {
    if (!function_.options().cgi) {  // its output is the body from the first byte on
      head_.emplace().fields.emplace_back("Content-Type", "application/octet-stream");
    }
  }

  // Queues it, or answers why not. `path`: of the target, behind the function's name.
  void Start(const RequestHead& head, std::string_view path);

  void OnBody(std::string_view bytes) override;
  void OnBodyEnd() override;
  bool full() const override { return input_.full(); }
  void OnDrained() override { ReadOutput(); }
  void OnGone() override;
  void Kill() override;
  bool over() const override { return !self_; }

 private:
  void Go();
  void OnWorkerEnded();
  bool MayTryAgain() const;
  void WriteInput();
  void ReadOutput();
  void ReadErrors();
  void WatchOutput(bool on);
  void Look();
  void StopLooking();
  void TakeOutput(std::string_view bytes);
  void BeginAnswer();
  void FinishCall();
  void AnswerWell();
  void AnswerFailure(const CallEnd& end);
  void PutRequest(const RequestHead& head, std::string_view path);
  bool WantsWholeResponse();
  void ShapeAnswer(CallEnd& end);
  void Refuse(int status, std::string_view why, std::string_view end);
  void Report(const CallEnd& end);
  void Leave();
  void Stop();
  void KillWorker();

  Pool& pool_;
  Timers& timers_;
  std::shared_ptr<FunctionPool> function_held_;  // the server may know it no more
  FunctionPool& function_;
  Caller* connection_;  // null: gone, or answered
  CallSink log_;
  std::shared_ptr<Call> self_;  // while it has a worker or a place
  CallPlace place_{timers_, function_};
  std::shared_ptr<FunctionWorker> worker_;
  bool hit_ = false;
  std::vector<std::string> environment_;  // of the request, beside the function's own

  CallInput input_{pool_};
  Watched output_watch_{pool_}, error_watch_{pool_};
  std::optional<CgiHead> head_;  // none: not whole yet
  std::string held_;             // of the answer, behind its head
  bool has_output_ = false;      // something has come
  bool begun_ = false;
  bool output_ended_ = false;
  ErrorTail errors_;

  bool expects_continue_ = false;
  std::uint64_t body_bytes_ = 0;         // that have come
  std::unique_ptr<EventRequest> event_;  // of API Gateway's form; until its body is whole
  std::string event_body_;
  bool shaped_ = false;  // head_ and held_ are those of the answer, and no longer of a response
  bool timed_out_ = false;
  bool killed_ = false;
  bool reported_ = false;
  std::optional<Timers::Id> timer_;  // ends it when it runs for too long
  std::optional<Timers::Id> look_timer_;
  CallTimes times_;
};

}  // namespace brood
