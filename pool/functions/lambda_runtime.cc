// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/lambda_runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "pool/functions/call_id.h"
#include "pool/functions/function_worker.h"
#include "pool/functions/lambda_environment.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::string_view kRoot = "/2018-06-01/runtime/";
constexpr std::string_view kInvocation = "invocation/";
constexpr std::string_view kResponse = "/response";
constexpr std::string_view kError = "/error";
constexpr std::string_view kErrorType = "Lambda-Runtime-Function-Error-Type";

// Lambda's form for errors, in both directions.
std::string ErrorJson(std::string_view type, std::string_view message) {
  const nlohmann::ordered_json json = {{"errorMessage", message}, {"errorType", type}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// A function's own words if they have that form, since others would not be understood by those who
// call.
std::string ErrorJsonOf(std::string_view type, std::string body) {
  if (body.starts_with('{') && nlohmann::json::accept(body)) return body;
  return ErrorJson(type.empty() ? "Runtime.Unknown" : type, body);
}

std::string TooLong() {
  return ErrorJson("Function.ResponseSizeTooLarge",
                   fmt::format("the response is longer than {} bytes", LambdaRuntime::kMaxPayload));
}

void Refuse(HttpConnection& connection, int status, std::string_view type, std::string_view why,
            Fields fields = {}) {
  fields.emplace_back("Content-Type", "application/json");
  connection.Answer(status, std::move(fields), ErrorJson(type, why));
}

void Accept(HttpConnection& connection) {
  connection.Answer(202, {{"Content-Type", "application/json"}}, R"({"status":"OK"})");
}

}  // namespace

// GET .../invocation/next: waits.
class LambdaRuntime::Question : public Exchange {
 public:
  Question(std::shared_ptr<LambdaRuntime> runtime, HttpConnection& connection)
      : runtime_(std::move(runtime)), connection_(connection) {}
  void OnBody(std::string_view) override {}
  void OnBodyEnd() override { runtime_->Ask(connection_); }
  bool full() const override { return false; }
  void OnDrained() override {}
  void OnGone() override { std::erase(runtime_->askers_, &connection_); }

 private:
  std::shared_ptr<LambdaRuntime> runtime_;
  HttpConnection& connection_;
};

// POST .../invocation/ID/response: goes to the call as it comes.
class LambdaRuntime::Response : public Exchange {
 public:
  Response(std::shared_ptr<LambdaRuntime> runtime, HttpConnection& connection, bool streams)
      : runtime_(std::move(runtime)), connection_(connection), streams_(streams) {}

  void OnBody(std::string_view bytes) override {
    if (!Current()) return;
    length_ += bytes.size();
    if (streams_ || length_ <= kMaxPayload) return runtime_->call_->Write(bytes);
    runtime_->responder_ = nullptr;
    const auto runtime = runtime_;  // the answer lets go of this
    Refuse(connection_, 413, "RequestEntityTooLarge", "the response is too long");
    runtime->Fail(TooLong(), /*for_good=*/false);
  }

  // A function that fails while its response is streamed says so behind it.
  void OnBodyEnd() override {
    if (!Current()) return;
    runtime_->responder_ = nullptr;
    const auto runtime = runtime_;
    const std::string type(FindField(connection_.trailers(), kErrorType));
    std::string body;
    const std::string_view coded =
        FindField(connection_.trailers(), "Lambda-Runtime-Function-Error-Body");
    absl::Base64Unescape({coded.data(), coded.size()}, &body);
    Accept(connection_);
    if (type.empty()) return runtime->Succeed();
    runtime->Fail(ErrorJsonOf(type, std::move(body)), /*for_good=*/false);
  }

  bool full() const override { return Current() && runtime_->call_->full(); }
  void OnDrained() override {}
  void OnGone() override {
    if (!Current()) return;
    runtime_->responder_ = nullptr;
    runtime_->Fail(ErrorJson("Runtime.TruncatedResponse", "the runtime broke its response off"),
                   /*for_good=*/true);
  }

 private:
  bool Current() const { return runtime_->responder_ == &connection_; }

  std::shared_ptr<LambdaRuntime> runtime_;
  HttpConnection& connection_;
  const bool streams_;
  std::size_t length_ = 0;
};

// POST .../invocation/ID/error and .../init/error.
class LambdaRuntime::Failure : public Exchange {
 public:
  Failure(std::shared_ptr<LambdaRuntime> runtime, HttpConnection& connection, std::string type,
          bool for_good)
      : runtime_(std::move(runtime)),
        connection_(connection),
        type_(std::move(type)),
        call_(for_good ? nullptr : runtime_->call_),
        for_good_(for_good) {}

  void OnBody(std::string_view bytes) override {
    if (too_long_) return;
    body_ += bytes;
    if (body_.size() <= kMaxError) return;
    too_long_ = true;
    body_.clear();
    const auto runtime = runtime_;  // the answer lets go of this
    const std::string error =
        ErrorJsonOf(type_, fmt::format("the error is longer than {} bytes", kMaxError));
    Refuse(connection_, 413, "RequestEntityTooLarge", "the error is too long");
    if (Current(*runtime)) runtime->Fail(error, for_good_);
  }

  void OnBodyEnd() override {
    if (too_long_) return;
    const auto runtime = runtime_;
    std::string error = ErrorJsonOf(type_, std::move(body_));
    const bool current = Current(*runtime);
    Accept(connection_);
    if (current) runtime->Fail(std::move(error), for_good_);
  }

  bool full() const override { return false; }
  void OnDrained() override {}
  void OnGone() override {}

 private:
  // It has not been given another call in the meantime, over another connection.
  bool Current(const LambdaRuntime& runtime) const {
    return for_good_ ? !runtime.begun_ : runtime.call_ == call_;
  }

  std::shared_ptr<LambdaRuntime> runtime_;
  HttpConnection& connection_;
  const std::string type_;
  const std::shared_ptr<LambdaCall> call_;  // that has failed; null: it cannot begin
  const bool for_good_;
  std::string body_;
  bool too_long_ = false;
};

LambdaRuntime::LambdaRuntime(Pool& pool, Timers& timers, const FunctionOptions& function)
    : pool_(pool), timers_(timers), arn_(LambdaArn(function)), timeout_(function.timeout) {}

absl::Status LambdaRuntime::Open(std::weak_ptr<FunctionWorker> worker, Stdio& stdio) {
  worker_ = std::move(worker);
  endpoint_ = std::make_shared<LambdaEndpoint>(pool_, timers_);
  const auto weak = weak_from_this();
  return endpoint_->Open(
      stdio,
      [weak](HttpConnection& connection, const RequestHead& head) -> std::shared_ptr<Exchange> {
        const auto self = weak.lock();
        return self ? self->Handle(connection, head) : nullptr;
      },
      [weak] {
        const auto self = weak.lock();
        if (!self) return;
        self->Fail(ErrorJson("Runtime.TooManyRequests",
                             "the runtime has made more requests than a call can need"),
                   /*for_good=*/true);
      });
}

void LambdaRuntime::OnWorkerEnded() {
  const auto self = shared_from_this();
  ended_ = true;
  responder_ = nullptr;
  on_room = on_over = nullptr;
  // A process that ends without having read what was sent to it has its connections reset.
  const auto event_to = std::exchange(event_to_, nullptr);
  if (event_to && call_ && event_to->WasReset()) call_->OnUnread();
  endpoint_->Close();
  if (!too_long_.empty()) (void)call_->Fail(std::exchange(too_long_, {}));
}

std::size_t LambdaRuntime::room() const {
  const bool served = call_ == nullptr || call_->over();
  const bool asks = !askers_.empty() && !ended_ && !failed_ &&
                    (served || call_->stage() == LambdaCall::Stage::kWaiting);
  return asks ? 1 : 0;
}

void LambdaRuntime::Give(std::shared_ptr<LambdaCall> call) {
  call_ = std::move(call);
  too_long_.clear();
  const auto weak = weak_from_this();
  call_->on_event = [weak] {
    if (const auto self = weak.lock()) self->Deliver();
  };
  call_->on_room = [weak] {
    const auto self = weak.lock();
    if (self && self->responder_ != nullptr) self->responder_->Resume();
  };
  Deliver();
}

std::shared_ptr<Exchange> LambdaRuntime::Handle(HttpConnection& connection,
                                                const RequestHead& head) {
  std::string_view path = head.path;
  const bool ours = path.starts_with(kRoot);
  if (ours) path.remove_prefix(kRoot.size());
  const bool asks = ours && path == "invocation/next";
  const bool begins_badly = ours && path == "init/error";
  const bool responds = ours && path.starts_with(kInvocation) && path.ends_with(kResponse);
  const bool fails = ours && path.starts_with(kInvocation) && path.ends_with(kError);
  if (!asks && !begins_badly && !responds && !fails) {
    Refuse(connection, 404, "NotFound", "the runtime interface has no such path");
    return nullptr;
  }
  const std::string_view method = asks ? "GET" : "POST";
  if (head.method != method) {
    Refuse(connection, 405, "MethodNotAllowed", fmt::format("it takes {}", method),
           {{"Allow", std::string(method)}});
    return nullptr;
  }
  if (asks) return std::make_shared<Question>(shared_from_this(), connection);
  if (!begins_badly) {
    path.remove_prefix(kInvocation.size());
    const std::string_view id = path.substr(0, path.rfind('/'));
    if (id_.empty() || id != id_) {
      Refuse(connection, 400, "InvalidRequestID", "that is not the id of its call");
      return nullptr;
    }
  }
  const bool called = call_ != nullptr && call_->stage() == LambdaCall::Stage::kCalled;
  if (begins_badly ? begun_ : !called) {
    Refuse(connection, 403, "InvalidStateTransition",
           begins_badly ? "it has begun its call" : "its call has been answered");
    return nullptr;
  }
  if (responds) return HandleResponse(connection, head);
  if (head.expects_continue) connection.Continue();
  return std::make_shared<Failure>(shared_from_this(), connection,
                                   std::string(FindField(head.fields, kErrorType)),
                                   /*for_good=*/begins_badly);
}

std::shared_ptr<Exchange> LambdaRuntime::HandleResponse(HttpConnection& connection,
                                                        const RequestHead& head) {
  const std::string_view mode = FindField(head.fields, "Lambda-Runtime-Function-Response-Mode");
  const bool streams = mode == "streaming";
  if (!streams && !mode.empty()) {
    const auto self = shared_from_this();
    Refuse(connection, 400, "InvalidFunctionResponseMode", "the only mode known is streaming");
    Fail(ErrorJson("Runtime.InvalidResponseModeHeader", "the only mode known is streaming"),
         /*for_good=*/false);
    return nullptr;
  }
  // It may still say something shorter; until then that is what is wrong.
  if (!streams && head.content_length.value_or(0) > kMaxPayload) {
    Refuse(connection, 413, "RequestEntityTooLarge",
           fmt::format("a response has {} bytes at most", kMaxPayload));
    too_long_ = TooLong();
    return nullptr;
  }
  if (head.expects_continue) connection.Continue();
  too_long_.clear();
  call_->BeginAnswer();
  responder_ = &connection;
  // Lambda's own callers are told that anything is JSON, but for what is streamed.
  const std::string_view type = FindField(head.fields, "Content-Type");
  call_->Write(fmt::format("Content-Type: {}\n\n", !streams       ? "application/json"
                                                   : type.empty() ? "application/octet-stream"
                                                                  : type));
  return std::make_shared<Response>(shared_from_this(), connection, streams);
}

void LambdaRuntime::Ask(HttpConnection& connection) {
  const auto self = shared_from_this();
  askers_.push_back(&connection);
  // It goes on without having said anything shorter.
  if (!too_long_.empty()) Fail(std::exchange(too_long_, {}), /*for_good=*/false);
  Deliver();
  if (room() > 0 && on_room) on_room();
}

void LambdaRuntime::Deliver() {
  if (call_ == nullptr || !call_->event_whole() || askers_.empty() ||
      call_->stage() != LambdaCall::Stage::kWaiting) {
    return;
  }
  const auto worker = call_->worker();
  if (!worker) return;
  HttpConnection& asker = *askers_.front();
  askers_.erase(askers_.begin());
  begun_ = true;
  endpoint_->BeginCall();
  const std::string& event = call_->Call();
  event_to_ = asker.shared_from_this();
  id_ = NewCallId();
  const std::int64_t left_ns = worker->asked_ns + timeout_.count() - NowNs();
  const std::int64_t now_ms = EpochMs();
  asker.Answer(200,
               {{"Content-Type", "application/json"},
                {"Lambda-Runtime-Aws-Request-Id", id_},
                {"Lambda-Runtime-Deadline-Ms", fmt::to_string(now_ms + left_ns / 1'000'000)},
                {"Lambda-Runtime-Invoked-Function-Arn", arn_},
                {"Lambda-Runtime-Trace-Id", fmt::format("Root=1-{:08x}-{};Sampled=0", now_ms / 1000,
                                                        RandomDigits().substr(8))}},
               // Lambda has no call without an event, either.
               event.empty() ? "{}" : event);
}

void LambdaRuntime::Succeed() {
  call_->Succeed();
  Over();
}

void LambdaRuntime::Fail(std::string error, bool for_good) {
  if (ended_ || failed_) return;
  const bool idle = call_ == nullptr || call_->over();
  if (idle && !for_good) return;
  failed_ = for_good;
  responder_ = nullptr;
  too_long_.clear();
  if (idle) {
    error_ = std::move(error);
  } else {
    call_->Fail(std::move(error));
  }
  Over();
}

void LambdaRuntime::Over() {
  if (on_over) return on_over();
  if (const auto worker = worker_.lock()) EndWorker(pool_, timers_, worker);
}

}  // namespace brood
