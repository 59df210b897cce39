// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/recorded_call.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "pool/functions/kept_head.h"
#include "pool/functions/start_call.h"

namespace brood {
namespace {

// Times and the function's own are worth keeping; what describes the transfer is not.
bool Keeps(std::string_view name) {
  return name != "Trailer" && name != "Content-Length" && name != "Retry-After";
}

std::string_view Find(const Fields& fields, std::string_view name) {
  for (const auto& [each, value] : fields) {
    if (each == name) return value;
  }
  return "";
}

}  // namespace

void RecordedCall::Start(Pool& pool, Timers& timers, std::shared_ptr<FunctionPool> function,
                         const std::string& id, const KeptRequest& request, RunningCalls& running,
                         CallSink log, Done done) {
  done_ = std::move(done);
  const auto self = shared_from_this();
  KeptHead kept = KeptHeadFromJson(request.head);
  peer_ = std::move(kept.peer);
  kept.head.has_body = !request.body.empty();
  kept.head.content_length = request.body.size();
  kept.head.id = id;
  running.Add(kept.head, function->options().name);
  const auto call = StartCall(pool, timers, std::move(function), *this, kept.head, kept.path,
                              [self, log = std::move(log)](const CallReport& report) {
                                if (log) log(report);
                                self->OnReport(report);
                              });
  running.Started(id, call);
  if (!done_) return;
  call_ = call;
  call->OnBody(request.body);
  if (done_) call->OnBodyEnd();
}

void RecordedCall::Drop() {
  const auto self = shared_from_this();
  done_ = nullptr;
  if (const auto call = std::exchange(call_, nullptr)) call->OnGone();
}

void RecordedCall::Answer(HttpStatus status, Fields fields, std::string_view body) {
  Begin(std::move(status), std::move(fields), body.size());
  Write(body);
}

void RecordedCall::Begin(HttpStatus status, Fields fields,
                         std::optional<std::uint64_t> /*length*/) {
  result_.status = status.code;
  fields_ = std::move(fields);
}

void RecordedCall::Write(std::string_view bytes) {
  const std::size_t room = kMaxOutput - result_.output.size();
  if (bytes.size() > room) result_.truncated = true;
  result_.output += bytes.substr(0, room);
}

void RecordedCall::Finish(const Fields& trailer) {
  fields_.insert(fields_.end(), trailer.begin(), trailer.end());
}

// The last that is heard of it. An answer that had begun well and then was broken off has the
// status of its end.
void RecordedCall::OnReport(const CallReport& report) {
  if (broken_) {
    result_.status = report.status;
    fields_.emplace_back("Brood-End", report.end);
  }
  result_.err = report.err;
  End();
}

void RecordedCall::End() {
  const auto done = std::exchange(done_, nullptr);
  if (!done) return;
  const auto self = shared_from_this();
  const std::string_view end = Find(fields_, "Brood-End");
  const bool refused = end == "refused" || end == "queue_timeout";
  auto kept = nlohmann::ordered_json::object();
  for (const auto& [name, value] : fields_) {
    if (Keeps(name)) kept[name] = value;
  }
  result_.fields = kept.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  call_.reset();
  done(std::move(result_), refused && (result_.status == 429 || result_.status == 503));
}

}  // namespace brood
