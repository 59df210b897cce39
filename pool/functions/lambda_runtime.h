// SPDX-License-Identifier: Apache-2.0

// AWS Lambda's runtime interface, version 2018-06-01, for one isolate, which serves one call.
//
//   the call's body   -> input_ -> event_   -> GET  .../invocation/next
//   the call's output <- output_ <- pending_ <- POST .../invocation/ID/response
//
// To the call it is what any function's stdin and stdout are: it holds the other ends of the pipes,
// and writes a CGI head before the response. Once a response or an error has come whole, all that
// was wanted has been said, and it ends the isolate.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/timers.h"
#include "pool/functions/function.h"
#include "pool/functions/http_connection.h"
#include "pool/functions/lambda_endpoint.h"
#include "pool/functions/watched.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood {

struct FunctionWorker;

// Only in the pool's thread. Held by its worker.
class LambdaRuntime : public std::enable_shared_from_this<LambdaRuntime> {
 public:
  static constexpr std::size_t kMaxPayload = 6U << 20;   // bytes of an event, and of a response
  static constexpr std::size_t kMaxError = 64U << 10;    // bytes of an error
  static constexpr std::size_t kMaxPending = 64U << 10;  // of a response, that wait for the call

  // `input`: where the call's body comes from; `output`: where its answer goes.
  LambdaRuntime(Pool& pool, Timers& timers, const FunctionOptions& function, UniqueFd input,
                UniqueFd output);
  ~LambdaRuntime();
  LambdaRuntime(const LambdaRuntime&) = delete;
  LambdaRuntime& operator=(const LambdaRuntime&) = delete;

  // Before the worker is asked for: `stdio` becomes that of a worker which opens the endpoint.
  absl::Status Open(std::weak_ptr<FunctionWorker> worker, Stdio& stdio);
  // The worker has ended. What the response still owes to the call is written to its end.
  void OnWorkerEnded();

  // It has asked for its call, which has not come.
  bool waits() const { return !askers_.empty() && stage_ == Stage::kStarting; }
  // Its response has come whole.
  bool answered() const { return stage_ == Stage::kAnswered; }
  // What went wrong, in the JSON of Lambda's errors; empty: nothing that it or we know of.
  const std::string& error() const { return error_; }
  // Bytes of the event that it has not been shown.
  std::size_t unseen() const;

 private:
  enum class Stage : std::uint8_t {
    kStarting,   // it has not been given its call
    kCalled,     // it has
    kAnswering,  // its response is coming
    kAnswered,
    kFailed,
  };
  class Question;
  class Response;
  class Failure;

  std::shared_ptr<Exchange> Handle(HttpConnection& connection, const RequestHead& head);
  std::shared_ptr<Exchange> HandleResponse(HttpConnection& connection, const RequestHead& head);
  void ReadInput();
  void Ask(HttpConnection& connection);
  void Deliver();
  void Write(std::string_view bytes);
  void Flush();
  void WatchInput(bool on);
  void WatchOutput(bool on);
  void Succeed();
  void Fail(std::string error);
  void EndWorker();

  Pool& pool_;
  Timers& timers_;
  const std::string arn_;
  const std::chrono::nanoseconds timeout_;
  std::weak_ptr<FunctionWorker> worker_;
  std::shared_ptr<LambdaEndpoint> endpoint_;

  Stage stage_ = Stage::kStarting;
  bool ended_ = false;  // the worker has
  UniqueFd input_, output_;
  Watched input_watch_{pool_}, output_watch_{pool_};
  std::string event_;
  bool event_whole_ = false;
  std::string id_;                       // of the call
  std::vector<HttpConnection*> askers_;  // that wait for one; the first is the one to be answered
  std::string pending_;                  // of the response, for output_
  HttpConnection* responder_ = nullptr;  // whom the response comes from
  std::string error_;
};

}  // namespace brood
