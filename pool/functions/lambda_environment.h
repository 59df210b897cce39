// SPDX-License-Identifier: Apache-2.0

// What a function finds in Lambda's execution environment beside the runtime interface.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "pool/functions/function.h"
#include "spawn/spec.h"

namespace brood {

// Fits a function with FunctionRuntime::kLambda to the isolation that it will run in: adds to its
// environment what Lambda's runtimes look for, as far as it does not have it (the list is in
// brood.toml(5)). kInvalidArgument for a network namespace that is not its own: a process that
// shares it could take the function's calls and answer them.
absl::Status FitLambda(const Spec& spec, FunctionOptions& options);

// arn:aws:lambda:REGION:000000000000:function:NAME. There is no such account; the region is that of
// the function's environment.
std::string LambdaArn(const FunctionOptions& options);

}  // namespace brood
