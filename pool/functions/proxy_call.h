// SPDX-License-Identifier: Apache-2.0

// One call of a function that is a server: its request is passed on to an isolate, and the answer
// back, as both come.
//
//   body -> pending_ -> HttpUpstream -> the command      its answer -> HttpUpstream -> the caller
//
// After an upgrade, as to WebSocket, bytes pass both ways until either side ends. Only in the
// pool's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "pool/core/timers.h"
#include "pool/functions/call_end.h"
#include "pool/functions/call_place.h"
#include "pool/functions/call_report.h"
#include "pool/functions/call_times.h"
#include "pool/functions/function_pool.h"
#include "pool/functions/http_runtime.h"
#include "pool/functions/warm_pool.h"
#include "pool/http/caller.h"
#include "pool/http/connection.h"
#include "pool/http/upstream.h"
#include "pool/pool.h"

namespace brood {

class ProxyCall : public Exchange,
                  public WarmCall,
                  public HttpUpstream::User,
                  public std::enable_shared_from_this<ProxyCall> {
 public:
  static constexpr std::size_t kMaxPending = 64U << 10;  // bytes that wait for an isolate
  static constexpr std::size_t kMaxKept = 64U << 10;     // of a request that may be sent once more

  ProxyCall(Pool& pool, Timers& timers, std::shared_ptr<FunctionPool> function, Caller& caller,
            CallSink log)
      : pool_(pool),
        timers_(timers),
        function_held_(std::move(function)),
        function_(*function_held_),
        caller_(&caller),
        log_(std::move(log)) {}

  // Queues it, or answers why not. `path`: of the target, behind the function's name.
  void Start(const RequestHead& head, std::string_view path);

  void OnBody(std::string_view bytes) override;
  void OnBodyEnd() override;
  bool full() const override;
  void OnDrained() override;
  void OnGone() override;
  void Kill() override;
  bool over() const override { return !self_; }

  void OnGiven(const FunctionWorker& host, std::uint64_t served_before) override;
  void OnOver(std::string_view) override {}  // it is this that knows
  void OnLost(absl::StatusOr<Outcome> outcome, std::string_view said,
              const std::string& error) override;

 private:
  void OnAnswer(const ResponseHead& head, std::string_view body, bool done) override;
  void OnBroken(const std::string& why, bool reached) override;
  void OnRoom() override;

  void Go();
  void Connect();
  void Send(std::string_view bytes);
  bool MaySendAgain() const;
  bool ServeAgain(bool fit);
  void LetGoOfSocket(HttpRuntime::Left left);
  void LeaveIsolate(bool fit);
  void OnTimeout();
  void Refuse(int status, std::string_view why, std::string_view end);
  void Fail(CallEnd end, bool fit);
  void Report(const CallEnd& end);
  void Finish();

  Pool& pool_;
  Timers& timers_;
  std::shared_ptr<FunctionPool> function_held_;  // the server may know it no more
  FunctionPool& function_;
  Caller* caller_;  // null: gone, or answered
  CallSink log_;
  std::shared_ptr<ProxyCall> self_;  // until it is over
  CallPlace place_{timers_, function_};
  std::shared_ptr<WarmPool> warm_;        // while that knows it
  std::shared_ptr<HttpRuntime> runtime_;  // of its isolate
  std::shared_ptr<HttpUpstream> upstream_;

  std::string pending_;           // of the request, for an isolate that it does not have yet
  std::string kept_;              // of the request, from its beginning; while it is short
  bool keeps_ = true;             // all that has been sent is in there
  bool repeatable_ = false;       // the server may be asked the same twice (RFC 9110, 9.2.2)
  bool reached_ = false;          // it may have been read by the server
  bool connected_again_ = false;  // to the same isolate
  bool sent_again_ = false;       // to another
  bool to_head_ = false;
  bool has_body_ = false;
  bool chunked_ = false;
  bool asks_for_upgrade_ = false;
  bool expects_continue_ = false;
  bool hit_ = false;
  bool begun_ = false;     // the answer has
  bool upgraded_ = false;  // and it was 101
  bool reported_ = false;
  std::uint64_t body_bytes_ = 0;
  std::optional<Timers::Id> timer_;         // ends it when it runs for too long
  std::optional<Timers::Id> broken_timer_;  // what has broken the answer off is not known yet
  std::string broken_;
  std::string said_;  // the last of its isolate's stderr
  CallTimes times_;
};

}  // namespace brood
