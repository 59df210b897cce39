// SPDX-License-Identifier: Apache-2.0

// Measuring rows in rounds: each round takes every row once, in an order of its own, so that what
// drifts (heat, neighbours, the kernel's own debts) hits all of them, the floors too.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "bench/harness/record.h"
#include "bench/harness/row.h"

namespace brood::bench {

// Measures `rows` for `rounds` rounds and appends to `record`, leaving out what it has already. A
// row that fails is recorded with its error, and tried again in the next round. Stops after the row
// it is at when this process gets SIGINT or SIGTERM: kCancelled. Draws its progress.
//
// The order of a round is always the same, whether it was stopped in between or not.
absl::Status RunRounds(const std::vector<Row>& rows, int rounds, Record& record);

}  // namespace brood::bench
