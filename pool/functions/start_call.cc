// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/start_call.h"

#include <utility>

#include "pool/functions/call.h"
#include "pool/functions/proxy_call.h"

namespace brood {
namespace {

template <typename AnyCall>
std::shared_ptr<Exchange> StartOne(Pool& pool, Timers& timers,
                                   std::shared_ptr<FunctionPool> function, Caller& caller,
                                   const RequestHead& head, std::string_view path, CallSink log) {
  auto call = std::make_shared<AnyCall>(pool, timers, std::move(function), caller, std::move(log));
  call->Start(head, path);
  return call;
}

}  // namespace

std::shared_ptr<Exchange> StartCall(Pool& pool, Timers& timers,
                                    std::shared_ptr<FunctionPool> function, Caller& caller,
                                    const RequestHead& head, std::string_view path, CallSink log) {
  const bool proxied = function->options().runtime == FunctionRuntime::kHttp;
  return (proxied ? StartOne<ProxyCall> : StartOne<Call>)(pool, timers, std::move(function), caller,
                                                          head, path, std::move(log));
}

}  // namespace brood
