// SPDX-License-Identifier: Apache-2.0

// Begins a call of a function, of whatever kind that is.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "pool/core/timers.h"
#include "pool/functions/call_end.h"
#include "pool/functions/call_report.h"
#include "pool/functions/function_pool.h"
#include "pool/http/caller.h"
#include "pool/http/connection.h"
#include "pool/http/request_parser.h"
#include "pool/pool.h"

namespace brood {

// The call may have been answered when this returns. `path`: of the request's target, behind the
// function's name. `log` is given what did not go well. Only in the pool's thread.
std::shared_ptr<Exchange> StartCall(Pool& pool, Timers& timers,
                                    std::shared_ptr<FunctionPool> function, Caller& caller,
                                    const RequestHead& head, std::string_view path, CallSink log);

}  // namespace brood
