// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/proxy_call.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "pool/functions/request_text.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// A command that has died is heard of by its connections first, and by its end a moment later.
constexpr auto kEndIsHeardOf = std::chrono::milliseconds(50);

// Methods of which two have the effect of one (RFC 9110, 9.2.2).
bool IsRepeatable(std::string_view method) {
  for (const std::string_view each : {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}) {
    if (method == each) return true;
  }
  return false;
}

// The fields of an answer that are the function's to set.
Fields OwnFields(const ResponseHead& head) {
  Fields fields;
  for (auto& field : EndToEnd(head.fields)) {
    // To a HEAD it tells the length of what a GET would get; otherwise that is ours to tell.
    const bool length = head.to_head && EqualsIgnoringCase(field.first, "Content-Length");
    if (length || MaySetField(field.first)) fields.push_back(std::move(field));
  }
  const std::string_view upgrade = FindField(head.fields, "Upgrade");
  if (head.status == 101 && !upgrade.empty()) fields.emplace_back("Upgrade", upgrade);
  return fields;
}

}  // namespace

void ProxyCall::Start(const RequestHead& head, std::string_view path) {
  times_.arrived_ns = NowNs();
  times_.id = head.id;
  const FunctionOptions& options = function_.options();
  if (head.content_length.value_or(0) > options.max_body) {
    return Refuse(413, fmt::format("{} takes {} bytes at most", options.name, options.max_body),
                  "refused");
  }
  pending_ = ForwardedText(head, path, options, caller_->peer());
  to_head_ = head.method == "HEAD";
  has_body_ = head.has_body;
  chunked_ = IsChunked(head);
  repeatable_ = IsRepeatable(head.method);
  asks_for_upgrade_ = AsksForUpgrade(head);
  expects_continue_ = head.expects_continue;
  self_ = shared_from_this();
  const absl::Status entered =
      place_.Enter([this] { Go(); },
                   [this] {
                     Refuse(503, "no isolate was free in time", "queue_timeout");
                     Finish();
                   });
  if (!entered.ok()) {
    Refuse(429, Message(entered), "refused");
    return self_.reset();
  }
  ++function_.metrics().accepted;
}

void ProxyCall::Go() {
  const auto self = self_;
  times_.run_ns = NowNs();
  warm_ = function_.warm();
  if (!warm_) {
    Refuse(503, "the function is ending", "refused");
    return Finish();
  }
  timer_ = timers_.Add(function_.options().timeout, [this] {
    timer_.reset();
    OnTimeout();
  });
  hit_ = warm_->idle() > 0;
  if (warm_->size() == 0) ++function_.metrics().misses["none"];
  warm_->Serve(self);
}

void ProxyCall::OnGiven(const FunctionWorker& host, std::uint64_t served_before) {
  times_.started_ns = NowNs();
  times_.served_before = served_before;
  times_.path = served_before > 0 ? "warm" : host.PathName(hit_);
  runtime_ = std::static_pointer_cast<HttpRuntime>(host.runtime);
  Connect();
}

void ProxyCall::Connect() {
  const auto self = self_;
  HttpRuntime::Line line = runtime_->Take(/*fresh=*/connected_again_);
  if (!line.socket.valid()) return OnBroken("there is no socket left to it", /*reached=*/false);
  upstream_ = std::make_shared<HttpUpstream>(pool_, std::move(line.socket), line.connected,
                                             function_.options().port, to_head_, *this);
  const auto upstream = upstream_;
  const std::string waiting = std::exchange(pending_, {});
  Send(waiting);
  if (upstream_ == upstream) upstream->Open();
  if (caller_ == nullptr) return;
  const auto held = caller_->Hold();
  if (std::exchange(expects_continue_, false)) caller_->Continue();
  if (caller_ != nullptr && waiting.size() >= kMaxPending) caller_->Resume();
}

void ProxyCall::Send(std::string_view bytes) {
  if (!upstream_) {
    pending_ += bytes;
    return;
  }
  if (keeps_ && kept_.size() + bytes.size() <= kMaxKept) {
    kept_ += bytes;
  } else {
    keeps_ = false;
    kept_.clear();
  }
  upstream_->Write(bytes);
}

void ProxyCall::OnBody(std::string_view bytes) {
  if (caller_ == nullptr) return;
  const auto self = shared_from_this();
  if (upgraded_) {
    if (upstream_) upstream_->Write(bytes);
    return;
  }
  body_bytes_ += bytes.size();
  if (body_bytes_ > function_.options().max_body) {
    return Fail(
        {.status = 413,
         .end = "refused",
         .why = fmt::format("the body is longer than {} bytes", function_.options().max_body)},
        /*fit=*/true);
  }
  if (!chunked_) return Send(bytes);
  Send(fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes));
}

void ProxyCall::OnBodyEnd() {
  const auto self = shared_from_this();
  if (chunked_ && caller_ != nullptr) Send("0\r\n\r\n");
}

bool ProxyCall::full() const {
  return upstream_ ? upstream_->congested() : pending_.size() >= kMaxPending;
}

void ProxyCall::OnRoom() {
  if (caller_ != nullptr) caller_->Resume();
}

void ProxyCall::OnDrained() {
  if (upstream_) upstream_->SetPaused(false);
}

void ProxyCall::OnAnswer(const ResponseHead& head, std::string_view body, bool done) {
  const auto self = self_;
  if (caller_ == nullptr) return;
  const auto held = caller_->Hold();
  if (!begun_ && head.status == 101 && (!asks_for_upgrade_ || !caller_->Upgrade(OwnFields(head)))) {
    return OnBroken("it has changed the protocol unasked", /*reached=*/true);
  }
  const bool first = !std::exchange(begun_, true);
  if (first) {
    ++function_.metrics().answers[head.status];
    kept_.clear();
    keeps_ = false;
  }
  if (first && head.status == 101) {
    upgraded_ = true;
    upstream_->Tunnel();
    return caller_->Resume();
  }
  if (!done) {
    if (first) {
      // Those behind an answer would be dropped by most who read it.
      Fields fields = OwnFields(head);
      for (auto& field : times_.ToFields()) fields.push_back(std::move(field));
      caller_->Begin({head.status, head.reason}, std::move(fields),
                     to_head_ ? std::nullopt : head.content_length);
    }
    caller_->Write(body);
    if (caller_ != nullptr && upstream_ && caller_->congested()) upstream_->SetPaused(true);
    return;
  }
  // The isolate takes its next call before this one's caller is told, who may be slow.
  Caller& caller = *std::exchange(caller_, nullptr);
  // A server that does not read a body would take it for its next request, and answer the next
  // caller with what this one has put there.
  const bool reusable = upstream_->reusable() && (!has_body_ || function_.options().reads_bodies);
  Fields fields = OwnFields(head);
  const HttpStatus status(head.status, head.reason);
  const std::string rest(body);
  LetGoOfSocket(reusable ? HttpRuntime::Left::kOpen : HttpRuntime::Left::kWhole);
  times_.ended_ns = NowNs();
  LeaveIsolate(/*fit=*/true);
  said_.clear();  // perhaps of other calls; what an isolate says is told as it comes
  place_.Leave();
  if (first) {
    for (auto& field : times_.ToFields()) fields.push_back(std::move(field));
    if (to_head_) {  // which has the fields of a GET, and no length that we would make up
      caller.Begin(status, std::move(fields));
      caller.Finish({});
    } else {
      caller.Answer(status, std::move(fields), rest);
    }
  } else {
    caller.Write(rest);
    caller.Finish({});
  }
  Report({.status = status.code});
  Finish();
}

// Without an answer begun, and what was sent still there.
bool ProxyCall::MaySendAgain() const {
  return !begun_ && !sent_again_ && keeps_ && caller_ != nullptr && (repeatable_ || !reached_);
}

// By another isolate. False: there is none to be had.
bool ProxyCall::ServeAgain(bool fit) {
  LeaveIsolate(fit);
  warm_ = function_.warm();
  if (!warm_) return false;
  ++function_.metrics().misses["died"];
  sent_again_ = true;
  reached_ = false;
  pending_.insert(0, std::exchange(kept_, {}));
  warm_->Serve(self_);
  return true;
}

void ProxyCall::OnBroken(const std::string& why, bool reached) {
  const auto self = self_;
  const bool kept_alive = upstream_ && upstream_->was_connected();
  reached_ |= reached;
  LetGoOfSocket(HttpRuntime::Left::kBroken);
  if (upgraded_ && caller_ != nullptr) {
    // One side of a tunnel has ended, in whatever manner.
    std::exchange(caller_, nullptr)->Finish({});
    LeaveIsolate(/*fit=*/true);
    Report({.status = 101});
    return Finish();
  }
  // A connection that it had kept and closed now; or it does not listen any more.
  if (MaySendAgain() && kept_alive && !connected_again_) {
    connected_again_ = true;
    pending_.insert(0, std::exchange(kept_, {}));
    return Connect();
  }
  if (MaySendAgain() && !reached_ && ServeAgain(/*fit=*/false)) return;
  broken_ = why;
  broken_timer_ = timers_.Add(kEndIsHeardOf, [this] {
    broken_timer_.reset();
    Fail({.status = 502,
          .end = "no_answer",
          .why = "the function has broken its answer off",
          .message = broken_},
         /*fit=*/true);
  });
}

void ProxyCall::OnLost(absl::StatusOr<Outcome> outcome, std::string_view said,
                       const std::string& /*error*/) {
  const auto self = self_;
  said_ = said;
  reached_ |= upstream_ && upstream_->sent_any();
  LetGoOfSocket(HttpRuntime::Left::kBroken);
  warm_.reset();
  if (broken_timer_) timers_.Cancel(*broken_timer_);
  broken_timer_.reset();
  CallEnd end = EndOfIsolate(outcome);
  // Killed from outside, or by the OOM killer on behalf of another call.
  const bool killed = outcome.ok() && outcome->end != End::kExited;
  if (killed && MaySendAgain() && ServeAgain(/*fit=*/true)) return;
  if (end.good()) {
    end = {.status = 502,
           .end = "no_answer",
           .why = "the function ended without an answer",
           .message = broken_};
  }
  Fail(std::move(end), /*fit=*/true);
}

void ProxyCall::OnTimeout() {
  Fail({.status = 504, .end = "timeout", .why = "the function took too long"}, /*fit=*/upgraded_);
}

void ProxyCall::Kill() {
  const auto self = shared_from_this();
  Fail({.status = 500, .end = "killed", .why = "the call was killed"}, /*fit=*/false);
}

void ProxyCall::OnGone() {
  const auto self = shared_from_this();
  if (caller_ == nullptr) return;
  caller_ = nullptr;
  if (!upgraded_) ++function_.metrics().gone;
  LetGoOfSocket(HttpRuntime::Left::kBroken);
  // The server may go on with it, which no other call is to wait for where it serves one at a time.
  LeaveIsolate(/*fit=*/function_.options().max_inflight > 1);
  Report({.status = upgraded_ ? 101 : 0});
  Finish();
}

void ProxyCall::LetGoOfSocket(HttpRuntime::Left left) {
  const auto upstream = std::exchange(upstream_, nullptr);
  if (!upstream) return;
  UniqueFd socket = upstream->Release();
  if (runtime_) runtime_->GiveBack(std::move(socket), left);
}

void ProxyCall::LeaveIsolate(bool fit) {
  runtime_.reset();
  if (const auto warm = std::exchange(warm_, nullptr)) said_ = warm->Done(self_, fit);
}

void ProxyCall::Refuse(int status, std::string_view why, std::string_view end) {
  if (caller_ == nullptr) return;
  ++function_.metrics().answers[status];
  const CallEnd refused = {.status = status, .end = std::string(end), .why = std::string(why)};
  AnswerEnd(*std::exchange(caller_, nullptr), refused, times_.ToFields());
  Report(refused);
}

void ProxyCall::Report(const CallEnd& end) {
  if (!std::exchange(reported_, true)) {
    log_(times_.Report(function_.options().name, end, said_));
  }
}

// `fit`: it is not its isolate's fault.
void ProxyCall::Fail(CallEnd end, bool fit) {
  const auto self = self_;
  LetGoOfSocket(HttpRuntime::Left::kBroken);
  times_.ended_ns = NowNs();
  LeaveIsolate(fit);
  place_.Leave();
  Caller* const caller = std::exchange(caller_, nullptr);
  if (caller == nullptr) {
    end.status = 0;
  } else if (upgraded_) {
    caller->Finish({});
  } else if (begun_) {
    ++function_.metrics().broken;
    caller->Abort();
  } else {
    ++function_.metrics().answers[end.status];
    AnswerEnd(*caller, end, times_.ToFields());
  }
  Report(end);
  Finish();
}

void ProxyCall::Finish() {
  const auto self = self_;
  for (std::optional<Timers::Id>* const timer : {&timer_, &broken_timer_}) {
    if (*timer) timers_.Cancel(**timer);
    timer->reset();
  }
  place_.Leave();
  if (self_ && times_.started_ns != 0) {
    if (times_.ended_ns == 0) times_.ended_ns = NowNs();
    times_.AddTo(function_.metrics());
  }
  self_.reset();
}

}  // namespace brood
