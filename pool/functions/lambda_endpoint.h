// SPDX-License-Identifier: Apache-2.0

// The address at which an isolate's runtime finds its daemon: 127.0.0.1:9001, the isolate's own.
//
//   worker, before exec: socket, bind, listen -> channel -> listener -> HttpConnection -> handler
//
// The listening socket is made by the worker in its own network namespace (StdioMode::kEndpoint),
// so no other process can reach it, it is there before the command looks for it, and no thread of
// the daemon ever enters a namespace. Whatever comes over it is the function's, and not to be
// trusted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "pool/core/timers.h"
#include "pool/core/watched.h"
#include "pool/http/connection.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood {

// Only in the pool's thread. Ends nothing by itself: its connections have no deadlines beside the
// isolate's own life, but those that are only read to their end.
class LambdaEndpoint : public std::enable_shared_from_this<LambdaEndpoint> {
 public:
  static constexpr std::uint16_t kPort = 9001;  // as in Lambda
  static constexpr std::size_t kMaxConnections = 16;
  // Connections and requests together, for each call, which takes a handful.
  static constexpr std::int64_t kBurst = 256;
  static constexpr std::int64_t kEachNs = 50'000'000;  // one more for each of these

  LambdaEndpoint(Pool& pool, Timers& timers) : pool_(pool), timers_(timers) {}
  ~LambdaEndpoint() { Close(); }
  LambdaEndpoint(const LambdaEndpoint&) = delete;
  LambdaEndpoint& operator=(const LambdaEndpoint&) = delete;

  // Makes `stdio`, whose fds[1] and fds[2] are set, that of a worker which opens the endpoint.
  // `handler` is given every request, until Close. `flooded` is called when more requests came than
  // the pool's thread should handle; no more are taken.
  absl::Status Open(Stdio& stdio, HttpConnection::Handler handler, std::function<void()> flooded);
  // What a call may need may be spent anew.
  void BeginCall() { spent_until_ns_ = 0; }
  // Closes all descriptors. Exchanges under way are told that their caller has gone.
  void Close();

 private:
  void TakeListener();
  void WatchListener(bool on);
  void Accept();
  bool MakeRoom();
  bool Adopt(UniqueFd socket);
  bool Spend();
  void Sweep();

  Pool& pool_;
  Timers& timers_;
  HttpConnection::Handler handler_;
  std::function<void()> flooded_;
  UniqueFd channel_;          // over which the listener comes
  UniqueFd workers_channel_;  // the worker's end, until then
  UniqueFd listener_;
  Watched channel_watch_{pool_}, listener_watch_{pool_};
  std::optional<Timers::Id> sweep_;
  std::map<HttpConnection*, std::shared_ptr<HttpConnection>> connections_;
  std::int64_t spent_until_ns_ = 0;  // when all that was spent is back
};

}  // namespace brood
