// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/function_worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>

#include "pool/functions/http_runtime.h"
#include "pool/functions/lambda_call.h"
#include "pool/functions/lambda_runtime.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {

std::string_view FunctionModeName(FunctionMode mode) {
  switch (mode) {
    case FunctionMode::kCold:
      return "cold";
    case FunctionMode::kParked:
      return "parked";
    case FunctionMode::kPrimed:
      return "primed";
    case FunctionMode::kForked:
      return "forked";
    case FunctionMode::kWarm:
      return "warm";
  }
  return "";
}

std::string_view FunctionRuntimeName(FunctionRuntime runtime) {
  switch (runtime) {
    case FunctionRuntime::kStdin:
      return "stdin";
    case FunctionRuntime::kLambda:
      return "lambda";
    case FunctionRuntime::kHttp:
      return "http";
  }
  return "";
}

bool FunctionWorker::ready() const { return started_ns != 0 && (!runtime || runtime->room() > 0); }

bool FunctionWorker::Alive() const {
  if (outcome || started_ns == 0) return false;
  if (request == 0) return true;  // the end of a clone is told
  if (!pidfd.valid()) return false;
  pollfd poller{pidfd.get(), POLLIN, 0};
  return poll(&poller, 1, 0) == 0;
}

std::string_view FunctionWorker::PathName(bool ahead) const {
  if (served_before > 0) return "warm";
  return ahead && path != SpawnPath::kForked ? "primed" : SpawnPathName(path);
}

void FunctionWorker::End(absl::StatusOr<Outcome> result) {
  int left = 0;
  if (ioctl(theirs[0].get(), FIONREAD, &left) == 0) unread = static_cast<std::size_t>(left);
  if (runtime) runtime->OnWorkerEnded();
  if (lambda) {
    unread = lambda->unseen();
    lambda->OnServerGone();
  }
  // Its output comes to an end with these; what else there is to close can wait for the answer.
  theirs[1].reset();
  theirs[2].reset();
  outcome.emplace(std::move(result));
  on_started = nullptr;
  kill = nullptr;
  // What is called may give up the function that is running, and what it holds.
  if (const auto ended = std::exchange(on_ended, nullptr)) ended();
  theirs[0].reset();
  pidfd.reset();
}

namespace {

// Has the pool start it with `stdio`.
absl::Status SubmitWorker(Pool& pool, const FunctionOptions& function, SpawnPath path,
                          const Stdio& stdio, const std::vector<std::string>& environment,
                          const std::shared_ptr<FunctionWorker>& worker) {
  worker->asked_ns = NowNs();
  Request request;
  request.template_name = function.template_name;
  request.command = function.command;
  request.command.stdio = stdio;
  std::vector<std::string>& env = request.command.env;
  env.insert(env.end(), environment.begin(), environment.end());
  request.path = path;
  request.when_empty = WhenEmpty::kSlower;
  request.on_started = [weak = std::weak_ptr(worker)](const Started& started) {
    const auto self = weak.lock();
    if (!self) return;
    // It has not been reaped, so the number is still its own.
    self->pidfd.reset(static_cast<int>(syscall(SYS_pidfd_open, started.host_pid, 0)));
    self->path = started.path;
    self->started_ns = NowNs();
    if (self->on_started) self->on_started();
  };
  BROOD_RETURN_IF_ERROR(pool.Submit(
      std::move(request),
      [worker](absl::StatusOr<Outcome> outcome) { worker->End(std::move(outcome)); },
      &worker->request));
  worker->kill = [&pool, request = worker->request] { return pool.Kill(request); };
  return absl::OkStatus();
}

Stdio StdioOf(const FunctionWorker& worker) {
  Stdio stdio;
  stdio.mode = StdioMode::kFds;
  for (std::size_t i = 0; i < 3; ++i) stdio.fds[i] = worker.theirs[i].get();
  return stdio;
}

// The stdio of a worker whose calls come to it in another way: its stdout is for the log, too.
Stdio StdioToLog(const FunctionWorker& worker) {
  Stdio stdio = StdioOf(worker);
  stdio.fds[1] = stdio.fds[2];
  return stdio;
}

absl::StatusOr<std::shared_ptr<LambdaRuntime>> OpenLambda(
    Pool& pool, Timers& timers, const FunctionOptions& function,
    const std::shared_ptr<FunctionWorker>& worker, Stdio& stdio) {
  auto runtime = std::make_shared<LambdaRuntime>(pool, timers, function);
  stdio = StdioToLog(*worker);
  BROOD_RETURN_IF_ERROR(runtime->Open(worker, stdio));
  worker->runtime = runtime;
  return runtime;
}

}  // namespace

absl::StatusOr<std::shared_ptr<FunctionWorker>> NewFunctionWorker(const FunctionOptions& function) {
  auto worker = std::make_shared<FunctionWorker>();
  for (std::size_t i = 0; i < 3; ++i) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      return ErrnoError(errno, "making a pipe to function {}", function.name);
    }
    UniqueFd& ours = i == 0 ? worker->in : i == 1 ? worker->out : worker->err;
    ours.reset(ends[i == 0 ? 1 : 0]);
    worker->theirs[i].reset(ends[i == 0 ? 0 : 1]);
    // So that the function can open /dev/stdin, whoever it is (spawn/launch/stdio.cc).
    (void)fchmod(ends[0], 0666);
    // Of our end alone: the flag belongs to the open file, and a pipe's ends are two.
    if (fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) {
      return ErrnoError(errno, "preparing a pipe to function {}", function.name);
    }
  }
  return worker;
}

absl::StatusOr<std::shared_ptr<LambdaCall>> NewLambdaCall(
    Pool& pool, const FunctionOptions& function, const std::shared_ptr<FunctionWorker>& worker) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (fcntl(worker->theirs[i].get(), F_SETFL, O_NONBLOCK) != 0) {
      return ErrnoError(errno, "preparing a pipe to function {}", function.name);
    }
  }
  auto call = std::make_shared<LambdaCall>(pool, worker, std::move(worker->theirs[0]),
                                           std::move(worker->theirs[1]));
  call->Open();
  return call;
}

// The pool may not know yet that the worker runs: then again, soon.
void EndWorker(Pool& pool, Timers& timers, const std::shared_ptr<FunctionWorker>& worker) {
  if (worker->outcome || pool.Signal(worker->request, {SIGKILL}).ok()) return;
  timers.Add(std::chrono::milliseconds(5), [&pool, &timers, weak = std::weak_ptr(worker)] {
    if (const auto again = weak.lock()) EndWorker(pool, timers, again);
  });
}

absl::StatusOr<std::shared_ptr<FunctionWorker>> StartRuntime(Pool& pool, Timers& timers,
                                                             const FunctionOptions& function) {
  BROOD_ASSIGN_OR_RETURN(auto worker, NewFunctionWorker(function));
  Stdio stdio;
  if (function.runtime == FunctionRuntime::kHttp) {
    auto runtime = std::make_shared<HttpRuntime>(pool, timers, function);
    stdio = StdioToLog(*worker);
    BROOD_RETURN_IF_ERROR(runtime->Open(stdio));
    worker->runtime = std::move(runtime);
  } else {
    BROOD_RETURN_IF_ERROR(OpenLambda(pool, timers, function, worker, stdio).status());
  }
  BROOD_RETURN_IF_ERROR(SubmitWorker(pool, function, SpawnPath::kParked, stdio, {}, worker));
  return worker;
}

absl::StatusOr<std::shared_ptr<FunctionWorker>> StartFunction(
    Pool& pool, Timers& timers, const FunctionOptions& function, SpawnPath path,
    const std::vector<std::string>& environment) {
  BROOD_ASSIGN_OR_RETURN(auto worker, NewFunctionWorker(function));
  Stdio stdio = StdioOf(*worker);
  if (function.runtime == FunctionRuntime::kLambda) {
    BROOD_ASSIGN_OR_RETURN(const auto runtime, OpenLambda(pool, timers, function, worker, stdio));
    BROOD_ASSIGN_OR_RETURN(worker->lambda, NewLambdaCall(pool, function, worker));
    runtime->Give(worker->lambda);
  }
  BROOD_RETURN_IF_ERROR(SubmitWorker(pool, function, path, stdio, environment, worker));
  return worker;
}

}  // namespace brood
