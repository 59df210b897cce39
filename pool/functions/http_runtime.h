// SPDX-License-Identifier: Apache-2.0

// An isolate whose command is a server on 127.0.0.1:$PORT: the sockets with which its daemon
// reaches it, and whether it is ready.
//
//   worker, before exec: sockets -> channel -> free_ -> (connected) -> HttpUpstream -> idle_, free_
//
// The sockets are made by the worker in its own network namespace (StdioMode::kEndpoint): so no
// thread of the daemon ever enters a namespace, and no other process can reach the command. A
// socket is used again once it has been disconnected (connect with AF_UNSPEC, tcp(7)).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pool/core/timers.h"
#include "pool/core/watched.h"
#include "pool/functions/function.h"
#include "pool/functions/runtime.h"
#include "pool/http/upstream.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood {

class HttpRuntime : public Runtime, public std::enable_shared_from_this<HttpRuntime> {
 public:
  HttpRuntime(Pool& pool, Timers& timers, const FunctionOptions& function)
      : pool_(pool), timers_(timers), function_(function) {}
  ~HttpRuntime() override { OnWorkerEnded(); }

  // Before the worker is asked for: `stdio`, whose fds[1] and fds[2] are set, becomes that of a
  // worker which sends the sockets.
  absl::Status Open(Stdio& stdio);

  // None until it is ready.
  std::size_t room() const override;
  bool failed() const override { return failed_; }
  const std::string& error() const override { return error_; }
  void OnWorkerEnded() override;

  // For one exchange; room() is more than none. One that is connected has served another, and is
  // not given where it is to be `fresh`.
  struct Line {
    UniqueFd socket;
    bool connected = false;
  };
  Line Take(bool fresh);
  // What an exchange leaves its socket as.
  enum class Left : std::uint8_t {
    kOpen,    // connected, with nothing of the exchange in it: it may have another
    kWhole,   // the answer has been read to its end
    kBroken,  // there is more to come, or to be read
  };
  void GiveBack(UniqueFd socket, Left left);

 private:
  class Probe;
  struct Idle {
    UniqueFd socket;
    std::int64_t until_ns = 0;
  };

  void TakeSockets();
  void TryOut();
  void TryAgain();
  void OnReady(UniqueFd connected);
  void Disconnect(UniqueFd socket);
  void LetGo(Idle idle);
  void SweepLater();
  void Sweep();

  Pool& pool_;
  Timers& timers_;
  const FunctionOptions function_;
  UniqueFd channel_;          // over which the sockets come
  UniqueFd workers_channel_;  // the worker's end, until then
  Watched channel_watch_{pool_};
  std::size_t awaited_ = 0;     // sockets that have not come
  std::vector<UniqueFd> free_;  // not connected
  std::vector<Idle> idle_;      // connected, between two exchanges; the one used last is the last
  std::vector<Idle> closing_;   // told the command that nothing more will come
  std::shared_ptr<Probe> probe_;
  int tries_ = 0;
  std::optional<Timers::Id> timer_;  // that tries again, or sweeps
  bool ready_ = false;
  bool ended_ = false;
  bool failed_ = false;
  const std::string error_;
};

// Fits a function with FunctionRuntime::kHttp to the isolation that it will run in, and completes
// its environment; kInvalidArgument where it cannot be told apart from its neighbours there.
absl::Status FitHttp(const Spec& spec, FunctionOptions& options);

}  // namespace brood
