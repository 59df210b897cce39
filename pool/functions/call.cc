// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>

#include "absl/strings/str_join.h"
#include "pool/functions/lambda_runtime.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/reap.h"

namespace brood {
namespace {

constexpr std::size_t kMaxCgiHead = 16384;

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// A function may not set what belongs to the connection, nor pass itself off as us.
bool MaySet(std::string name) {
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const std::string_view own :
       {"connection", "content-length", "transfer-encoding", "trailer", "upgrade", "keep-alive"}) {
    if (name == own) return false;
  }
  return !name.starts_with("brood-");
}

}  // namespace

void Call::Start(const RequestHead& head) {
  arrived_ns_ = NowNs();
  const FunctionOptions& options = function_.options();
  if (head.content_length.value_or(0) > options.max_body) {
    return Refuse(413, fmt::format("{} takes {} bytes at most", options.name, options.max_body),
                  "refused");
  }
  expects_continue_ = head.expects_continue;
  self_ = shared_from_this();
  auto place = function_.Enter([this] { Go(); });
  if (!place.ok()) {
    Refuse(429, Message(place.status()), "refused");
    self_.reset();
    return;
  }
  ++function_.metrics().accepted;
  place_ = *place;
  if (run_ns_ != 0) {
    // It may have failed to start in the meantime.
    if (!worker_) Leave();
    return;
  }
  timer_ = timers_.Add(options.queue_timeout, [this] {
    timer_.reset();
    const auto self = self_;
    Refuse(503, "no isolate was free in time", "queue_timeout");
    Leave();
  });
}

void Call::Go() {
  const auto self = self_;
  if (timer_) timers_.Cancel(*timer_);
  timer_.reset();
  run_ns_ = NowNs();
  auto taken = function_.Take();
  if (!taken.ok()) {
    Refuse(503, Message(taken.status()), "refused");
    if (place_) Leave();
    return;
  }
  worker_ = std::move(taken->worker);
  hit_ = taken->hit;
  sent_.clear();
  // A worker that was started ahead waited for the call, not the call for it.
  if (worker_->started_ns != 0) worker_->started_ns = worker_->asked_ns = run_ns_;
  worker_->on_ended = [this] { OnWorkerEnded(); };
  timer_ = timers_.Add(function_.options().timeout, [this] {
    timer_.reset();
    timed_out_ = true;
    KillWorker();
  });
  Look();
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
  input_ += bytes;
  WriteInput();
}

void Call::OnBodyEnd() {
  body_ended_ = true;
  WriteInput();
}

void Call::OnGone() {
  const auto self = shared_from_this();
  connection_ = nullptr;
  ++function_.metrics().gone;
  Stop();
}

// Nobody waits for it any more. What runs is killed; its end is heard of in OnWorkerEnded.
void Call::Stop() {
  if (worker_ && !worker_->outcome) {
    KillWorker();
  } else if (!worker_ && place_) {
    Leave();
  } else if (worker_) {
    FinishCall();
  }
}

// The pool may not have taken up a request that was submitted a moment ago: then again, soon.
void Call::KillWorker() {
  if (!worker_ || worker_->outcome || worker_->kill().ok()) return;
  timers_.Add(std::chrono::milliseconds(5), [self = shared_from_this()] { self->KillWorker(); });
}

void Call::WriteInput() {
  if (!worker_ || !worker_->in.valid()) return;
  const bool was_full = full();
  std::size_t written = 0;
  while (written < input_.size()) {
    const ssize_t count =
        write(worker_->in.get(), input_.data() + written, input_.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {  // it reads no more, which is its affair
      written = input_.size();
      break;
    }
    written += static_cast<std::size_t>(count);
  }
  if (hit_ && sent_.size() <= kMaxInput) sent_.append(input_, 0, written);
  input_.erase(0, written);
  WatchInput(!input_.empty());
  if (input_.empty() && body_ended_) worker_->in.reset();
  if (was_full && !full() && connection_ != nullptr) connection_->Resume();
}

void Call::WatchInput(bool on) {
  if (!on) return input_watch_.Stop();
  (void)input_watch_.Start(worker_->in.get(), POLLOUT, [this](short) {
    const auto self = self_;
    WriteInput();
  });
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
  if (connection_ == nullptr) return;  // read, so that it can end
  if (begun_) return connection_->Write(bytes);
  held_ += bytes;
  if (function_.options().cgi && !cgi_done_ && !TakeCgiHead()) return;
  if (held_.size() <= kMaxHeld || !cgi_error_.empty()) {
    if (!cgi_error_.empty()) held_.clear();
    return;
  }
  BeginAnswer();
  connection_->Write(held_);
  held_.clear();
}

// False: the head is not whole yet.
bool Call::TakeCgiHead() {
  std::size_t at = 0;
  Fields fields;
  int status = 200;
  for (;;) {
    const std::size_t end = held_.find('\n', at);
    if (end == std::string::npos) {
      if (held_.size() > kMaxCgiHead) {
        cgi_error_ = "its head is too long";
        cgi_done_ = true;
      }
      return cgi_done_;
    }
    std::string_view line(held_.data() + at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at = end + 1;
    if (line.empty()) break;
    const std::size_t colon = line.find(':');
    std::string name(line.substr(0, colon));
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    const bool clean = std::none_of(value.begin(), value.end(), [](unsigned char c) {
      return (c < 0x20 && c != '\t') || c == 0x7f;
    });
    if (colon == std::string_view::npos || !IsToken(name) || !clean) {
      cgi_error_ = "a line of its head is not a header field";
    } else if (name == "Status" || name == "status") {
      const auto [rest, error] = std::from_chars(value.data(), value.data() + value.size(), status);
      // 1xx, 204 and 304 have no body, which is not the function's to decide here.
      if (error != std::errc() || status < 200 || status > 599 || status == 204 || status == 304) {
        cgi_error_ = "its Status is not from 200 to 599, or allows no body";
      }
    } else if (MaySet(name)) {
      fields.emplace_back(std::move(name), value);
    }
  }
  held_.erase(0, at);
  cgi_done_ = true;
  cgi_status_ = status;
  cgi_fields_ = std::move(fields);
  return true;
}

void Call::BeginAnswer() {
  begun_ = true;
  Fields fields = cgi_fields_;
  if (!function_.options().cgi) fields.emplace_back("Content-Type", "application/octet-stream");
  fields.emplace_back("Trailer",
                      "Brood-Path, Brood-Queue-Us, Brood-Spawn-Us, Brood-Run-Us, Brood-Total-Us");
  connection_->Begin(cgi_status_, std::move(fields));
}

// A primed worker may be killed from outside, or by the OOM killer, at the moment it is taken. It
// has seen nothing of the call when all that was sent to it still lies in its pipe.
bool Call::MayTryAgain() const {
  if (!hit_ || timed_out_ || connection_ == nullptr || begun_ || !held_.empty()) return false;
  const absl::StatusOr<Outcome>& outcome = *worker_->outcome;
  const bool killed = outcome.ok() && (outcome->end == End::kSignalled ||
                                       outcome->end == End::kKilled || outcome->end == End::kOom);
  return killed && !sent_.empty() && sent_.size() <= kMaxInput && worker_->unread == sent_.size();
}

void Call::OnWorkerEnded() {
  const auto self = self_;
  if (MayTryAgain()) {
    ++function_.metrics().misses["died"];
    WatchInput(false);
    StopLooking();
    input_.insert(0, std::exchange(sent_, {}));
    return Go();
  }
  ended_ns_ = NowNs();
  if (timer_) timers_.Cancel(*timer_);
  timer_.reset();
  StopLooking();
  function_.set_brief(!begun_ &&
                      std::chrono::nanoseconds(ended_ns_ - worker_->started_ns) < kBrief);
  WatchInput(false);
  worker_->in.reset();
  input_.clear();
  errors_.ReadRest(worker_->err.get());
  // The isolate is gone, and with it the place: a slow reader of its answer holds no other call up.
  function_.Leave(place_);
  place_.reset();
  if (output_ended_) return FinishCall();
  ReadOutput();
  if (connection_ != nullptr && !connection_->open()) connection_ = nullptr;
}

Fields Call::TimeFields() const {
  const std::int64_t now = NowNs();
  const auto us = [](std::int64_t ns) {
    return fmt::to_string(std::max<std::int64_t>(ns, 0) / 1000);
  };
  Fields fields;
  const std::int64_t run = run_ns_ == 0 ? now : run_ns_;
  if (worker_) {
    const std::int64_t started = worker_->started_ns == 0 ? run : worker_->started_ns;
    fields.emplace_back("Brood-Path", worker_->PathName(hit_));
    fields.emplace_back("Brood-Spawn-Us", us(started - run));
    fields.emplace_back("Brood-Run-Us", us((ended_ns_ == 0 ? now : ended_ns_) - started));
  }
  fields.emplace_back("Brood-Queue-Us", us(run - arrived_ns_));
  fields.emplace_back("Brood-Total-Us", us(now - arrived_ns_));
  return fields;
}

// The worker has ended and all its output has been read.
void Call::FinishCall() {
  const auto self = self_;
  if (!worker_ || !worker_->outcome) return;
  const absl::StatusOr<Outcome>& outcome = *worker_->outcome;
  FunctionMetrics& metrics = function_.metrics();
  ++metrics.paths[std::string(worker_->PathName(hit_))];
  const std::int64_t started = worker_->started_ns == 0 ? run_ns_ : worker_->started_ns;
  metrics.queue.Add(run_ns_ - arrived_ns_);
  metrics.spawn.Add(started - run_ns_);
  metrics.run.Add(ended_ns_ - started);
  metrics.total.Add(NowNs() - arrived_ns_);

  Report report;
  report.function = function_.options().name;
  report.err = errors_.text();
  report.status = 200;
  std::string why;
  Fields extra;
  std::string_view type = "text/plain";
  const LambdaRuntime* const lambda = worker_->lambda.get();
  if (lambda != nullptr && lambda->answered()) {
    // All is said; that it was ended then is no failure.
  } else if (timed_out_) {
    report.status = 504;
    report.end = "timeout";
    why = "the function took too long";
  } else if (!outcome.ok()) {
    report.status = 503;
    report.end = "refused";
    report.message = std::string(Message(outcome.status()));
    why = "no isolate could be started";
  } else if (outcome->end == End::kOom) {
    report.status = 507;
    report.end = "oom";
    report.message = absl::StrJoin(outcome->limits_met, "; ");
    why = "the function ran out of memory";
  } else if (lambda != nullptr && !lambda->error().empty()) {
    report.status = 500;
    report.end = "error";
    report.message = why = lambda->error();
    type = "application/json";
    extra.emplace_back("X-Amz-Function-Error", "Unhandled");
  } else if (!outcome->ok()) {
    report.status = 500;
    report.end = std::string(EndName(outcome->end));
    report.message = outcome->message;
    if (outcome->end == End::kExited) {
      extra.emplace_back("Brood-Exit-Code", fmt::to_string(outcome->exit_code));
    } else if (outcome->end == End::kSignalled) {
      extra.emplace_back("Brood-Signal", fmt::to_string(outcome->signal));
    }
    why = "the function failed";
  } else if (lambda != nullptr) {
    report.status = 500;
    report.end = "no_answer";
    why = "the function ended without an answer";
  } else if (function_.options().cgi && (!cgi_done_ || !cgi_error_.empty())) {
    report.status = 502;
    report.end = "bad_answer";
    report.message = cgi_error_.empty() ? "its head has no end" : cgi_error_;
    why = "the function's answer is not a CGI answer";
  }
  const bool good = report.status == 200;
  if (connection_ == nullptr) {
    report.status = 0;
  } else {
    Caller& connection = *std::exchange(connection_, nullptr);
    Fields fields = TimeFields();
    if (good && begun_) {
      ++metrics.answers[cgi_status_];
      connection.Finish(fields);
    } else if (begun_) {
      ++metrics.broken;
      connection.Abort();
    } else if (good) {
      ++metrics.answers[cgi_status_];
      fields.insert(fields.begin(), cgi_fields_.begin(), cgi_fields_.end());
      if (!function_.options().cgi) fields.emplace_back("Content-Type", "application/octet-stream");
      connection.Answer(cgi_status_, std::move(fields), held_);
    } else {
      ++metrics.answers[report.status];
      fields.insert(fields.end(), extra.begin(), extra.end());
      fields.emplace_back("Brood-End", report.end);
      fields.emplace_back("Content-Type", type);
      if (report.status == 503) fields.emplace_back("Retry-After", "1");
      connection.Answer(report.status, std::move(fields), why + "\n");
    }
  }
  if (!good) log_(report);
  WatchOutput(false);
  worker_.reset();
  self_.reset();
}

void Call::Refuse(int status, std::string_view why, std::string_view end) {
  if (connection_ == nullptr) return;
  Caller& connection = *std::exchange(connection_, nullptr);
  if (begun_) {
    ++function_.metrics().broken;
    return connection.Abort();
  }
  ++function_.metrics().answers[status];
  Fields fields = TimeFields();
  fields.emplace_back("Brood-End", end);
  fields.emplace_back("Content-Type", "text/plain");
  if (status == 429 || status == 503) fields.emplace_back("Retry-After", "1");
  connection.Answer(status, std::move(fields), fmt::format("{}\n", why));
}

// Gives its place up without having run.
void Call::Leave() {
  const auto self = self_;
  if (timer_) timers_.Cancel(*timer_);
  timer_.reset();
  if (const auto place = std::exchange(place_, nullptr)) function_.Leave(place);
  self_.reset();
}

}  // namespace brood
