// SPDX-License-Identifier: Apache-2.0

// The moments of a call, as its answer and the metrics tell them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "pool/functions/call_end.h"
#include "pool/functions/call_report.h"
#include "pool/functions/function_worker.h"
#include "pool/functions/metrics.h"
#include "pool/http/caller.h"

namespace brood {

struct CallTimes {
  // The fields that ToFields makes, as an answer that has them behind it announces them.
  static constexpr std::string_view kFields =
      "Brood-Call-Id, Brood-Path, Brood-Served-Before, Brood-Queue-Us, Brood-Spawn-Us, "
      "Brood-Run-Us, "
      "Brood-Total-Us";

  std::string id;  // of the call
  std::int64_t arrived_ns = 0;
  std::int64_t run_ns = 0;          // it may run; 0: not yet
  std::int64_t started_ns = 0;      // it has its isolate; 0: not yet
  std::int64_t ended_ns = 0;        // that has served it, or has ended; 0: not yet
  std::string_view path = "";       // how that came to be; empty: it had none
  std::uint64_t served_before = 0;  // calls that its isolate had served

  // What its worker says of it. `ahead`: that was started before the call took it.
  void SetWorker(const FunctionWorker& worker, bool ahead);
  // As far as it has come by now.
  Fields ToFields() const;
  // Once its isolate has served it, or has ended.
  void AddTo(FunctionMetrics& metrics) const;
  // What the log is told of the call.
  CallReport Report(const std::string& function, const CallEnd& end, std::string err) const;
};

}  // namespace brood
