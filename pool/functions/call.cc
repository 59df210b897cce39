// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "pool/functions/call_id.h"
#include "pool/functions/request_text.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {

void Call::Start(const RequestHead& head, std::string_view path) {
  times_.arrived_ns = NowNs();
  times_.id = head.id;
  const FunctionOptions& options = function_.options();
  if (head.content_length.value_or(0) > options.max_body) {
    return Refuse(413, fmt::format("{} takes {} bytes at most", options.name, options.max_body),
                  "refused");
  }
  expects_continue_ = head.expects_continue;
  PutRequest(head, path);
  self_ = shared_from_this();
  const absl::Status entered =
      place_.Enter([this] { Go(); },
                   [this] {
                     const auto self = self_;
                     Refuse(503, "no isolate was free in time", "queue_timeout");
                     Leave();
                   });
  if (!entered.ok()) {
    Refuse(429, Message(entered), "refused");
    return self_.reset();
  }
  ++function_.metrics().accepted;
}

// What a function on its stdin is told beside the body.
void Call::PutRequest(const RequestHead& head, std::string_view path) {
  const FunctionOptions& options = function_.options();
  if (options.event != LambdaEvent::kBody) {
    event_ = std::make_unique<EventRequest>(
        EventRequest{head, std::string(path), connection_->peer(), NewCallId(), EpochMs()});
  }
  if (options.runtime != FunctionRuntime::kStdin) return;
  if (options.input == FunctionInput::kRequest) {
    return input_.Add(RequestText(head, path));
  }
  const bool exec = options.mode == FunctionMode::kCold || options.mode == FunctionMode::kParked;
  if (exec) environment_ = CgiEnvironment(head, path, options, connection_->peer());
}

void Call::Go() {
  const auto self = self_;
  times_.run_ns = NowNs();
  auto taken = function_.Take(environment_);
  if (!taken.ok()) {
    Refuse(503, Message(taken.status()), "refused");
    return Leave();
  }
  worker_ = std::move(taken->worker);
  hit_ = taken->hit;
  // A worker that was started ahead waited for the call, not the call for it.
  if (worker_->started_ns != 0) worker_->started_ns = worker_->asked_ns = times_.run_ns;
  worker_->on_ended = [this] { OnWorkerEnded(); };
  timer_ = timers_.Add(function_.options().timeout, [this] {
    timer_.reset();
    timed_out_ = true;
    KillWorker();
  });
  Look();
  const bool keep = hit_ || function_.warm() != nullptr;
  input_.Open(std::move(worker_->in), keep, [this] { WriteInput(); });
  if (expects_continue_ && connection_ != nullptr) connection_->Continue();
  WriteInput();
}

void Call::OnBody(std::string_view bytes) {
  if (connection_ == nullptr) return;
  body_bytes_ += bytes.size();
  if (body_bytes_ > function_.options().max_body) {
    const auto self = shared_from_this();
    Refuse(413, fmt::format("the body is longer than {} bytes", function_.options().max_body),
           "refused");
    return Stop();
  }
  if (event_) {
    event_body_ += bytes;
    return;
  }
  input_.Add(bytes);
  WriteInput();
}

void Call::OnBodyEnd() {
  if (const auto event = std::exchange(event_, nullptr)) {
    input_.Add(EventJson(function_.options(), *event, std::exchange(event_body_, {})));
  }
  input_.End();
  WriteInput();
}

void Call::OnGone() {
  const auto self = shared_from_this();
  if (connection_ == nullptr) return;
  connection_ = nullptr;
  ++function_.metrics().gone;
  Stop();
}

void Call::Kill() {
  const auto self = shared_from_this();
  if (!worker_) {
    Refuse(500, "the call was killed", "killed");
    return Leave();
  }
  killed_ = true;
  KillWorker();
}

// Nobody waits for it any more. What runs is killed; its end is heard of in OnWorkerEnded.
void Call::Stop() {
  if (worker_ && !worker_->outcome) {
    KillWorker();
  } else if (worker_) {
    FinishCall();
  } else {
    Leave();
  }
}

// The pool may not have taken up a request that was submitted a moment ago: then again, soon.
void Call::KillWorker() {
  if (!worker_ || worker_->outcome || worker_->kill().ok()) return;
  timers_.Add(std::chrono::milliseconds(5), [self = shared_from_this()] { self->KillWorker(); });
}

void Call::WriteInput() {
  const auto self = self_;
  const bool was_full = full();
  input_.Write();
  if (was_full && !full() && connection_ != nullptr) connection_->Resume();
}

void Call::WatchOutput(bool on) {
  if (!on) return output_watch_.Stop();
  (void)output_watch_.Start(worker_->out.get(), POLLIN, [this](short) { ReadOutput(); });
}

// A brief call's output lies in its pipes until it has ended: to be told of it at once would wake
// this thread in the midst of the call, mostly on the processor that it runs on.
void Call::Look() {
  if (function_.brief() && !look_timer_) {
    look_timer_ = timers_.Add(kBrief, [this] { Look(); });
    return;
  }
  look_timer_.reset();
  (void)error_watch_.Start(worker_->err.get(), POLLIN, [this](short) { ReadErrors(); });
  WatchOutput(true);
}

void Call::StopLooking() {
  if (look_timer_) timers_.Cancel(*look_timer_);
  look_timer_.reset();
  WatchOutput(false);
  error_watch_.Stop();
}

void Call::ReadErrors() {
  if (!errors_.Read(worker_->err.get())) error_watch_.Stop();
}

// A bounded piece at a time, and none while the caller does not take what there is.
void Call::ReadOutput() {
  if (!worker_ || output_ended_) return;
  const auto self = self_;
  for (int pieces = 0; pieces < 4; ++pieces) {
    if (connection_ != nullptr && begun_ && connection_->congested()) return WatchOutput(false);
    std::array<char, 65536> buffer;
    const ssize_t got = read(worker_->out.get(), buffer.data(), buffer.size());
    if (got < 0) break;
    if (got == 0) {
      output_ended_ = true;
      WatchOutput(false);
      if (worker_->outcome) FinishCall();
      return;
    }
    TakeOutput({buffer.data(), static_cast<std::size_t>(got)});
    if (!worker_ || output_ended_) return;
  }
  WatchOutput(true);
}

void Call::TakeOutput(std::string_view bytes) {
  has_output_ = true;
  if (connection_ == nullptr) return;  // read, so that it can end
  if (begun_) return connection_->Write(bytes);
  held_ += bytes;
  if (!head_) {
    head_ = ParseCgiHead(held_);
    if (!head_) return;
    held_.erase(0, head_->bytes);
  }
  if (!head_->error.empty()) return held_.clear();
  if (WantsWholeResponse() || held_.size() <= kMaxHeld) return;
  BeginAnswer();
  connection_->Write(held_);
  held_.clear();
}

// Whether the answer is told from a response that is not whole yet.
bool Call::WantsWholeResponse() {
  if (function_.options().event == LambdaEvent::kBody || shaped_) return false;
  if (FindField(head_->fields, "Content-Type") != kPreludeType) return true;
  const std::optional<Prelude> prelude = ParsePrelude(held_);
  if (!prelude) return true;
  shaped_ = true;
  head_->status = prelude->answer.status;
  head_->fields = prelude->answer.fields;
  head_->error = prelude->answer.error;
  held_.erase(0, prelude->bytes);
  return !head_->error.empty();
}

void Call::ShapeAnswer(CallEnd& end) {
  if (function_.options().event == LambdaEvent::kBody || shaped_) return;
  EventAnswer answer = AnswerOfResponse(function_.options().event, held_);
  if (!answer.error.empty()) {
    end = {.status = 502,
           .end = "bad_answer",
           .why = "the function's response is not one of API Gateway",
           .message = answer.error};
    return;
  }
  shaped_ = true;
  head_->status = answer.status;
  head_->fields = std::move(answer.fields);
  held_ = std::move(answer.body);
}

void Call::BeginAnswer() {
  begun_ = true;
  Fields fields = head_->fields;
  fields.emplace_back("Trailer", CallTimes::kFields);
  connection_->Begin(head_->status, std::move(fields));
}

// A primed worker may be killed from outside, or by the OOM killer, at the moment it is taken. It
// has seen nothing of the call when all that was sent to it still lies in its pipe. What it has
// said already would stand before another one's answer.
bool Call::MayTryAgain() const {
  // One that has served before may have come back for the next call a moment after this one looked.
  const bool proven = hit_ || worker_->served_before > 0;
  if (!proven || timed_out_ || killed_ || connection_ == nullptr || has_output_) return false;
  const absl::StatusOr<Outcome>& outcome = *worker_->outcome;
  const bool killed = outcome.ok() && (outcome->end == End::kSignalled ||
                                       outcome->end == End::kKilled || outcome->end == End::kOom);
  return killed && input_.Untouched(worker_->unread);
}

void Call::OnWorkerEnded() {
  const auto self = self_;
  if (MayTryAgain()) {
    ++function_.metrics().misses["died"];
    StopLooking();
    input_.Rewind();
    return Go();
  }
  times_.ended_ns = NowNs();
  if (timer_) timers_.Cancel(*timer_);
  timer_.reset();
  StopLooking();
  const std::chrono::nanoseconds ran(times_.ended_ns - worker_->started_ns);
  function_.set_brief(!begun_ && ran < kBrief);
  input_.Close();
  errors_.ReadRest(worker_->err.get());
  // The isolate is gone, and with it the place: a slow reader of its answer holds no other call up.
  place_.Leave();
  if (output_ended_) return FinishCall();
  ReadOutput();
  if (connection_ != nullptr && !connection_->open()) connection_ = nullptr;
}

// The worker has ended and all its output has been read.
void Call::FinishCall() {
  const auto self = self_;
  if (!worker_ || !worker_->outcome) return;
  times_.SetWorker(*worker_, hit_);
  times_.AddTo(function_.metrics());
  if (worker_->outcome->ok()) function_.metrics().AddUsage(**worker_->outcome);
  CallEnd end = EndOfCall(*worker_, timed_out_, head_);
  if (end.good()) ShapeAnswer(end);
  if (connection_ == nullptr) {
    end.status = 0;
  } else if (end.good()) {
    if (head_) end.status = head_->status.code;
    AnswerWell();
  } else {
    AnswerFailure(end);
  }
  Report(end);
  WatchOutput(false);
  worker_.reset();
  self_.reset();
}

void Call::AnswerWell() {
  Caller& connection = *std::exchange(connection_, nullptr);
  const CgiHead head = head_.value_or(CgiHead{});
  ++function_.metrics().answers[head.status.code];
  Fields fields = times_.ToFields();
  if (begun_) return connection.Finish(fields);
  fields.insert(fields.begin(), head.fields.begin(), head.fields.end());
  connection.Answer(head.status, std::move(fields), held_);
}

void Call::AnswerFailure(const CallEnd& end) {
  Caller& connection = *std::exchange(connection_, nullptr);
  if (begun_) {
    ++function_.metrics().broken;
    return connection.Abort();
  }
  ++function_.metrics().answers[end.status];
  AnswerEnd(connection, end, times_.ToFields());
}

void Call::Refuse(int status, std::string_view why, std::string_view end) {
  if (connection_ == nullptr) return;
  const CallEnd refused = {.status = status, .end = std::string(end), .why = std::string(why)};
  AnswerFailure(refused);
  Report(refused);
}

void Call::Report(const CallEnd& end) {
  if (!std::exchange(reported_, true)) {
    log_(times_.Report(function_.options().name, end, errors_.text()));
  }
}

// Gives its place up without having run.
void Call::Leave() {
  const auto self = self_;
  place_.Leave();
  self_.reset();
}

}  // namespace brood
