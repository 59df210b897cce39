// SPDX-License-Identifier: Apache-2.0

// Calls of functions over HTTP, against a bare process of the same program.
#pragma once

#include <vector>

#include "bench/harness/row.h"
#include "bench/measures/measures.h"

namespace brood::bench {

// `setup` must outlive the rows.
std::vector<Row> FunctionRows(const Setup& setup);

}  // namespace brood::bench
