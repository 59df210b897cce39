// SPDX-License-Identifier: Apache-2.0

// AWS Lambda's runtime interface, version 2018-06-01, for one isolate.
//
//   LambdaCall's event    -> GET  .../invocation/next
//   LambdaCall's response <- POST .../invocation/ID/response, with a CGI head before it
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/timers.h"
#include "pool/functions/function.h"
#include "pool/functions/lambda_call.h"
#include "pool/functions/lambda_endpoint.h"
#include "pool/functions/runtime.h"
#include "pool/http/connection.h"
#include "pool/pool.h"
#include "spawn/spec.h"

namespace brood {

class LambdaRuntime : public Runtime, public std::enable_shared_from_this<LambdaRuntime> {
 public:
  static constexpr std::size_t kMaxPayload = 6U << 20;  // bytes of an event, and of a response
  static constexpr std::size_t kMaxError = 64U << 10;   // bytes of an error

  LambdaRuntime(Pool& pool, Timers& timers, const FunctionOptions& function);

  // Before the worker is asked for: `stdio` becomes that of a worker which opens the endpoint.
  absl::Status Open(std::weak_ptr<FunctionWorker> worker, Stdio& stdio);
  // The one that it serves next; none may be under way. Without on_over, the isolate is ended
  // once it is over.
  void Give(std::shared_ptr<LambdaCall> call);
  // One, when it has asked for a call and has not been given it.
  std::size_t room() const override;
  bool failed() const override { return failed_; }
  const std::string& error() const override { return error_; }
  void OnWorkerEnded() override;

 private:
  class Question;
  class Response;
  class Failure;

  std::shared_ptr<Exchange> Handle(HttpConnection& connection, const RequestHead& head);
  std::shared_ptr<Exchange> HandleResponse(HttpConnection& connection, const RequestHead& head);
  void Ask(HttpConnection& connection);
  void Deliver();
  void Succeed();
  // `for_good`: no other call may be given to it.
  void Fail(std::string error, bool for_good);
  void Over();

  Pool& pool_;
  Timers& timers_;
  const std::string arn_;
  const std::chrono::nanoseconds timeout_;
  std::weak_ptr<FunctionWorker> worker_;
  std::shared_ptr<LambdaEndpoint> endpoint_;

  bool ended_ = false;  // the worker has
  bool begun_ = false;  // it has been given a call
  bool failed_ = false;
  std::shared_ptr<LambdaCall> call_;     // its last one; null: none yet
  std::string id_;                       // of that call
  std::vector<HttpConnection*> askers_;  // that wait for one; the first is the one to be answered
  std::shared_ptr<HttpConnection> event_to_;  // over which its call was given; it may be closed
  HttpConnection* responder_ = nullptr;       // whom the response comes from
  std::string too_long_;  // the error of a response that was refused for its length
  std::string error_;
};

}  // namespace brood
