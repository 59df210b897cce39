// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/warm_lambda_call.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include "pool/functions/lambda_call.h"
#include "pool/functions/lambda_runtime.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// Held by its worker until that has ended, and by the pool while it waits or is served.
class WarmLambdaCall : public WarmCall, public std::enable_shared_from_this<WarmLambdaCall> {
 public:
  WarmLambdaCall(std::weak_ptr<WarmPool> warm, std::shared_ptr<FunctionWorker> worker)
      : warm_(std::move(warm)), worker_(std::move(worker)) {}

  // No isolate waits for a caller that is slow to send.
  void OnEvent() {
    const auto warm = warm_.lock();
    if (warm && !worker_->outcome) warm->Serve(shared_from_this());
  }

  void OnGiven(const FunctionWorker& host, std::uint64_t served_before) override {
    worker_->path = host.path;
    worker_->served_before = served_before;
    worker_->started_ns = NowNs();
    std::static_pointer_cast<LambdaRuntime>(host.runtime)->Give(worker_->lambda);
  }

  // What is left of its response is still written.
  void OnOver(std::string_view said) override {
    Pass(said);
    End(brood::End::kExited);
  }

  void OnLost(absl::StatusOr<Outcome> outcome, std::string_view said,
              const std::string& error) override {
    Pass(said);
    if (!error.empty()) (void)worker_->lambda->Fail(error);
    worker_->End(std::move(outcome));
  }

  void Kill() {
    if (worker_->outcome) return;
    const auto warm = warm_.lock();
    if (!warm || warm->Kill(shared_from_this())) return;
    warm->Done(shared_from_this(), /*fit=*/true);
    End(brood::End::kKilled);
  }

 private:
  void Pass(std::string_view said) {
    if (!said.empty()) (void)!write(worker_->theirs[2].get(), said.data(), said.size());
  }

  void End(brood::End end) {
    Outcome outcome;
    if (const auto warm = warm_.lock()) outcome.template_name = warm->function().template_name;
    outcome.spawn_path = worker_->path;
    outcome.end = end;
    outcome.wall_us = static_cast<double>(NowNs() - worker_->asked_ns) / 1000;
    worker_->End(std::move(outcome));
  }

  const std::weak_ptr<WarmPool> warm_;
  const std::shared_ptr<FunctionWorker> worker_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<FunctionWorker>> ServeLambda(const std::shared_ptr<WarmPool>& warm) {
  const FunctionOptions& function = warm->function();
  BROOD_ASSIGN_OR_RETURN(auto worker, NewFunctionWorker(function));
  if (fcntl(worker->theirs[2].get(), F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError(errno, "preparing a pipe to function {}", function.name);
  }
  BROOD_ASSIGN_OR_RETURN(worker->lambda, NewLambdaCall(warm->pool(), function, worker));
  worker->asked_ns = NowNs();
  const auto call = std::make_shared<WarmLambdaCall>(warm, worker);
  // Not from within: the function that calls this belongs to the call.
  worker->kill = [call, &timers = warm->timers()] {
    timers.Add(std::chrono::nanoseconds(0), [call] { call->Kill(); });
    return absl::OkStatus();
  };
  worker->lambda->on_event = [call] { call->OnEvent(); };
  return worker;
}

}  // namespace brood
