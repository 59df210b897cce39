// SPDX-License-Identifier: Apache-2.0

// How a call ended: what its caller and the log are told.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "pool/functions/cgi_head.h"
#include "pool/functions/function_worker.h"
#include "pool/http/caller.h"

namespace brood {

struct CallEnd {
  int status = 200;
  // One word, Brood-End; empty: it went well, and the answer is the function's.
  std::string end = {};
  std::string why = {};                  // the answer's body
  std::string message = {};              // what else is known, for the log
  std::string_view type = "text/plain";  // of the body
  Fields fields = {};                    // of the answer

  bool good() const { return end.empty(); }
};

// What the end of its isolate says of a call; good where that says nothing against it.
CallEnd EndOfIsolate(const absl::StatusOr<Outcome>& outcome);
// Of a call whose worker has ended, with all its output read. `head`: what that begins with; none
// where it should begin with one and does not.
CallEnd EndOfCall(const FunctionWorker& worker, bool timed_out, const std::optional<CgiHead>& head);

// Answers with an end that is not good. `fields`: of the answer, beside those that tell of it.
void AnswerEnd(Caller& caller, const CallEnd& end, Fields fields);

}  // namespace brood
