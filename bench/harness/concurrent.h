// SPDX-License-Identifier: Apache-2.0

// The same work by several threads at once.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/harness/row.h"

namespace brood::bench {

// A row that measures what `prepare` returns, made once for each of `threads` threads. Its
// latencies are those of all threads; "per_s" is what they got done together; the parameter
// "concurrency" is set. row.iterations is for each thread.
Row ConcurrentRow(std::string name, int threads, std::function<absl::StatusOr<Once>()> prepare);

}  // namespace brood::bench
