// SPDX-License-Identifier: Apache-2.0

// A call of a custom runtime that a warm isolate serves.
//
//   LambdaCall's event -> WarmPool -> an isolate's LambdaRuntime -> FunctionWorker::End
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "pool/functions/function_worker.h"
#include "pool/functions/warm_pool.h"

namespace brood {

// A worker for one call, whose end is told as that of any other, while its isolate goes on. Only in
// the pool's thread.
absl::StatusOr<std::shared_ptr<FunctionWorker>> ServeLambda(const std::shared_ptr<WarmPool>& warm);

}  // namespace brood
