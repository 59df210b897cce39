// SPDX-License-Identifier: Apache-2.0

// The moments of a call, as its answer and the metrics tell them.
#pragma once

#include <cstdint>
#include <string_view>

#include "pool/functions/caller.h"
#include "pool/functions/function_worker.h"
#include "pool/functions/metrics.h"

namespace brood {

struct CallTimes {
  // The fields that ToFields makes, as an answer that has them behind it announces them.
  static constexpr std::string_view kFields =
      "Brood-Path, Brood-Served-Before, Brood-Queue-Us, Brood-Spawn-Us, Brood-Run-Us, "
      "Brood-Total-Us";

  std::int64_t arrived_ns = 0;
  std::int64_t run_ns = 0;    // it may run; 0: not yet
  std::int64_t ended_ns = 0;  // its worker has; 0: not yet

  // As far as it has come by now. `worker` is null while it has none; `ahead`: it was started
  // before the call took it.
  Fields ToFields(const FunctionWorker* worker, bool ahead) const;
  // Once its worker has ended.
  void AddTo(FunctionMetrics& metrics, const FunctionWorker& worker, bool ahead) const;
};

}  // namespace brood
