// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_end.h"

#include <fmt/format.h>

#include <utility>

#include "absl/strings/str_join.h"
#include "pool/functions/lambda_call.h"
#include "spawn/base/status.h"

namespace brood {

CallEnd EndOfIsolate(const absl::StatusOr<Outcome>& outcome) {
  if (!outcome.ok()) {
    return {.status = 503,
            .end = "refused",
            .why = "no isolate could be started",
            .message = std::string(Message(outcome.status()))};
  }
  if (outcome->end == End::kOom) {
    return {.status = 507,
            .end = "oom",
            .why = "the function ran out of memory",
            .message = absl::StrJoin(outcome->limits_met, "; ")};
  }
  if (outcome->ok()) return {};
  CallEnd end = {.status = 500,
                 .end = std::string(EndName(outcome->end)),
                 .why = "the function failed",
                 .message = outcome->message};
  if (outcome->end == End::kExited) {
    end.fields.emplace_back("Brood-Exit-Code", fmt::to_string(outcome->exit_code));
  } else if (outcome->end == End::kSignalled) {
    end.fields.emplace_back("Brood-Signal", fmt::to_string(outcome->signal));
  }
  return end;
}

CallEnd EndOfCall(const FunctionWorker& worker, bool timed_out,
                  const std::optional<CgiHead>& head) {
  const absl::StatusOr<Outcome>& outcome = *worker.outcome;
  const LambdaCall* const lambda = worker.lambda.get();
  // All is said; that it was ended then is no failure.
  if (lambda != nullptr && lambda->answered()) return {};
  if (timed_out) {
    return {.status = 504, .end = "timeout", .why = "the function took too long"};
  }
  const bool oom = outcome.ok() && outcome->end == End::kOom;
  if (lambda != nullptr && !lambda->error().empty() && outcome.ok() && !oom) {
    return {.status = 500,
            .end = "error",
            .why = lambda->error(),
            .message = lambda->error(),
            .type = "application/json",
            .fields = {{"X-Amz-Function-Error", "Unhandled"}}};
  }
  CallEnd end = EndOfIsolate(outcome);
  if (!end.good()) return end;
  if (lambda != nullptr) {
    return {.status = 500, .end = "no_answer", .why = "the function ended without an answer"};
  }
  if (!head || !head->error.empty()) {
    return {.status = 502,
            .end = "bad_answer",
            .why = "the function's answer is not a CGI answer",
            .message = head ? head->error : "its head has no end"};
  }
  return {};
}

void AnswerEnd(Caller& caller, const CallEnd& end, Fields fields) {
  fields.insert(fields.end(), end.fields.begin(), end.fields.end());
  fields.emplace_back("Brood-End", end.end);
  fields.emplace_back("Content-Type", end.type);
  if (end.status == 429 || end.status == 503) fields.emplace_back("Retry-After", "1");
  caller.Answer(end.status, std::move(fields), end.why + "\n");
}

}  // namespace brood
