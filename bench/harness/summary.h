// SPDX-License-Identifier: Apache-2.0

// The figures of a run as tables for a terminal: what whoever has waited for it wants to see first.
#pragma once

#include <vector>

#include "bench/harness/record.h"
#include "bench/harness/row.h"
#include "bench/harness/table.h"

namespace brood::bench {

// One table for each section, in the order of `rows`. A row that failed in any round shows its
// error and no figure; one that cannot run shows why.
std::vector<Table> SummaryTables(const std::vector<Row>& rows,
                                 const std::vector<Measurement>& measurements);

// How many rows failed in some round.
std::size_t CountFailed(const std::vector<Measurement>& measurements);

}  // namespace brood::bench
