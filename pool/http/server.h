// SPDX-License-Identifier: Apache-2.0

// The door: a listening socket, where there is one, and connections that came through it or were
// accepted elsewhere.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/http/connection.h"
#include "pool/http/options.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Bound and listening; any thread. `port` gets the number, where the kernel chose it.
absl::StatusOr<UniqueFd> ListenHttp(const HttpOptions& options, std::uint16_t& port);
// The one that systemd passes, which listens already; once, before other threads start.
absl::StatusOr<UniqueFd> InheritHttp();
// Whether others than this machine's own processes can connect to it.
bool IsReachedFromOutside(int socket);

// Only in the pool's thread. Must live until the pool has been shut down.
class HttpServer {
 public:
  // `socket` may be invalid: then nobody is let in but by Adopt.
  HttpServer(Pool& pool, Timers& timers, HttpOptions options, UniqueFd socket,
             HttpConnection::Handler handler)
      : pool_(pool),
        timers_(timers),
        options_(std::move(options)),
        socket_(std::move(socket)),
        handler_(std::move(handler)) {}

  // Connections may take half of the process's descriptors, if those are fewer than
  // max_connections: calls need some, too (PoolOptions::watched_fds).
  absl::Status Open();
  // A connection that somebody else has accepted, from a process of `user`.
  void Adopt(UniqueFd socket, uid_t user);
  // Accepts no more, and closes connections once the request under way has been answered. With
  // HttpOptions::share that begins a moment later, in which another daemon may take over.
  void StopListening();
  void Close();
  bool idle() const { return connections_.empty() && shut_; }
  std::size_t max_connections() const { return max_connections_; }

 private:
  bool Accept();
  void Add(UniqueFd socket, std::optional<uid_t> user);
  void ShutDoor();
  // Closes connections that wait for their caller, those idle longest first, to make room for
  // others. False: there are none.
  bool MakeRoom();
  void Sweep();

  Pool& pool_;
  Timers& timers_;
  HttpOptions options_;
  UniqueFd socket_;
  UniqueFd spare_;  // given up to turn a connection away when there are no descriptors left
  HttpConnection::Handler handler_;
  std::optional<Pool::WatchId> watch_;
  std::map<HttpConnection*, std::shared_ptr<HttpConnection>> connections_;
  std::size_t max_connections_ = 0;
  std::int64_t no_room_until_ns_ = 0;  // none to close was found a moment ago
  bool stopping_ = false;
  bool shut_ = false;
  bool closed_ = false;
};

}  // namespace brood
