// SPDX-License-Identifier: Apache-2.0

// One process of a forked function, and the calls that it is cloned for.
//
//   Start -> (the process loads) -> kReady -> Fork -> ... -> FunctionWorker::outcome
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/core/watched.h"
#include "pool/functions/error_tail.h"
#include "pool/functions/fork_cgroups.h"
#include "pool/functions/function.h"
#include "pool/functions/function_worker.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"
#include "spawn/plan/blueprint.h"
#include "spawn/ready/wire.h"

namespace brood {

// Only in the pool's thread. It is held by its calls, by the pool's callback for its process, and
// by the code that started it.
class ForkServer : public std::enable_shared_from_this<ForkServer> {
 public:
  // How long a process may take until it is ready.
  static constexpr std::chrono::seconds kLoadTime{60};

  struct Events {
    std::function<void()> ready;
    // The process is gone, or never was; a sentence. Nothing follows.
    std::function<void(std::string_view why, std::string_view err)> ended;
  };

  // Starts the process. `function.spec` is what each call stands behind.
  static absl::StatusOr<std::shared_ptr<ForkServer>> Start(Pool& pool, Timers& timers,
                                                           const FunctionOptions& function,
                                                           Events events);
  ForkServer(Pool& pool, Timers& timers, const FunctionOptions& function, Events events)
      : pool_(pool), timers_(timers), function_(function), events_(std::move(events)) {}

  bool ready() const { return ready_ && !retired_; }
  // A clone of the process, for one call. kUnavailable before it is ready, and after Retire.
  absl::StatusOr<std::shared_ptr<FunctionWorker>> Fork();

  // Ends the process once its calls have ended. Its end is then not reported.
  void Retire();

 private:
  struct CallProcess {
    std::shared_ptr<FunctionWorker> worker;
    ForkCgroups::Leaf leaf;
    UniqueFd pidfd;
    std::int32_t pid = 0;  // in the process' pid namespace; 0: not heard of yet
    bool kill = false;
    Failure failure;
  };
  using Calls = std::map<std::uint64_t, CallProcess>;

  absl::Status Prepare();
  absl::Status Submit();
  void OnStarted(const Started& started);
  void ReadMessages();
  bool ReadMessage();  // false: there is none for now, or no more will come
  void ReadErrors();
  void Take(const ready::Message& message, UniqueFd fd);
  void SendPlan();
  // An errno; 0: it has been sent.
  int Send(const ready::Message& message, const int* fds, std::size_t count);
  void SendOrders();
  void OnForked(CallProcess& call, const ready::Message& message, UniqueFd pidfd);
  void OnEnded(const ready::Message& message);
  void FinishCall(Calls::iterator at, const ready::Message& message);
  void Kill(std::uint64_t id);
  void KillProcess();
  void CloseDescriptors();
  void OnProcessEnded(const absl::StatusOr<Outcome>& outcome);
  void RemoveCgroups(int tries);

  Pool& pool_;
  Timers& timers_;
  const FunctionOptions function_;
  Events events_;
  std::optional<Blueprint> blueprint_;  // of a call
  Spec process_spec_;
  std::optional<ForkCgroups> cgroups_;  // none where the pool has none
  // Calls have cgroups of their own. They stay in that of their process where none can be given to
  // it, which takes the privilege to mount.
  bool call_leaves_ = false;
  UniqueFd library_;
  UniqueFd control_;
  UniqueFd errors_fd_;
  UniqueFd theirs_[2];  // its ends, until it has started
  Watched control_watch_{pool_}, errors_watch_{pool_};
  std::optional<Timers::Id> load_timer_;
  std::uint64_t request_ = 0;  // the pool's number of the process
  Calls calls_;
  std::deque<std::uint64_t> unsent_;  // calls that the process has not been told of
  Watched room_watch_{pool_};         // until the socket has room for them
  // Calls whose end was reported before their start, by pid; only while starts are awaited.
  std::map<std::int32_t, ready::Message> early_ends_;
  std::uint64_t next_call_ = 1;
  ErrorTail errors_;  // of the process itself
  std::string refusal_;
  bool ready_ = false;
  bool retired_ = false;
  bool gone_ = false;
};

}  // namespace brood
