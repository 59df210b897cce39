// SPDX-License-Identifier: Apache-2.0

// A burst of requests through brood's pool, as a row.
#pragma once

#include <string>

#include "bench/harness/row.h"
#include "pool/burst/burst.h"

namespace brood::bench {

// Its latency is that of one process at the rate they were served with. Series: per_s, p50_us,
// p99_us, park_us and worker_bytes where workers are parked; with `options.floor` also rate_ratio,
// floor_per_s, floor_p50_us, floor_p99_us. A burst with a failure, or that left anything behind, is
// an error: its rate would be told of fewer, or of faster, processes.
Row BurstRow(std::string name, BurstOptions options);

}  // namespace brood::bench
