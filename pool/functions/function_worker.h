// SPDX-License-Identifier: Apache-2.0

// One isolate of a function, and the pipes to it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/functions/function.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

class LambdaCall;
class Runtime;

// Only in the pool's thread. Held by its call, and until its end by the pool's callback.
struct FunctionWorker {
  UniqueFd in;   // to its stdin; not blocking
  UniqueFd out;  // from its stdout; at its end once `outcome` is there
  UniqueFd err;
  std::array<UniqueFd, 3> theirs;  // the other ends, until its outcome
  UniqueFd pidfd;                  // once started
  // What its command speaks a protocol with; null for FunctionRuntime::kStdin.
  std::shared_ptr<Runtime> runtime;
  // FunctionRuntime::kLambda: has the ends of the pipes that it needs. The worker of a warm call
  // has no runtime, which is its isolate's.
  std::shared_ptr<LambdaCall> lambda;
  std::uint64_t served_before = 0;  // calls, by its isolate
  // The pool's number; 0: its maker knows it alone (fork_server.h, warm_pool.h).
  std::uint64_t request = 0;
  SpawnPath path = SpawnPath::kParked;
  std::int64_t asked_ns = 0;
  std::int64_t started_ns = 0;  // 0: not yet
  std::optional<absl::StatusOr<Outcome>> outcome;
  std::size_t unread = 0;  // bytes of what was sent to it that it had not been given at its end
  std::function<void()> on_started;
  std::function<void()> on_ended;

  // Ends it. kNotFound when its maker does not know it yet: try again soon.
  std::function<absl::Status()> kill;

  // Whether it runs now: looked at, not remembered.
  bool Alive() const;
  // It has started, and has asked for its call where functions do.
  bool ready() const;
  // "warm", if it has served calls before; "primed", if it was started ahead of its call; or else
  // how it was started.
  std::string_view PathName(bool ahead) const;
  // Called by its maker: it has ended, or could not be made. Tells its user.
  void End(absl::StatusOr<Outcome> result);
};

// One that is still to be started, with its pipes.
absl::StatusOr<std::shared_ptr<FunctionWorker>> NewFunctionWorker(const FunctionOptions& function);

// The call of a custom runtime that reads what is sent to `worker`, and answers for it.
absl::StatusOr<std::shared_ptr<LambdaCall>> NewLambdaCall(
    Pool& pool, const FunctionOptions& function, const std::shared_ptr<FunctionWorker>& worker);

// Ends it by its init, with which all of its pid namespace ends: a cgroup that was killed as such
// could not be used again.
void EndWorker(Pool& pool, Timers& timers, const std::shared_ptr<FunctionWorker>& worker);

// Has the pool start an isolate of a function with FunctionRuntime::kLambda or kHttp, for calls
// that are given to its runtime. Of its pipes only `err` is of use.
absl::StatusOr<std::shared_ptr<FunctionWorker>> StartRuntime(Pool& pool, Timers& timers,
                                                             const FunctionOptions& function);

// Has the pool run the function for one call. `path`: the one wanted; a slower one is taken when
// there is no parked worker. `environment`: of this call, beside the command's own. The time is the
// caller's to limit, with Pool::Kill.
absl::StatusOr<std::shared_ptr<FunctionWorker>> StartFunction(
    Pool& pool, Timers& timers, const FunctionOptions& function, SpawnPath path,
    const std::vector<std::string>& environment);

}  // namespace brood
