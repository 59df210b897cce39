// SPDX-License-Identifier: Apache-2.0

// The daemon's socket: who may connect, what comes in whole, and what is refused.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "pool/daemon/peer.h"
#include "pool/daemon/service.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// A bound, listening socket at a path, which is removed with it.
class ListeningSocket {
 public:
  // kAlreadyExists when a daemon answers there. A socket without a living listener is replaced.
  // Mode 0600, or 0660 for `group`; kNotFound for an unknown group.
  static absl::StatusOr<ListeningSocket> Bind(const std::string& path,
                                              const std::optional<std::string>& group);
  ListeningSocket(ListeningSocket&& other) noexcept = default;
  ListeningSocket& operator=(ListeningSocket&& other) noexcept;
  ~ListeningSocket();

  int fd() const { return socket_.get(); }
  std::optional<gid_t> group() const { return group_; }
  // Removes the path, so that the next daemon can have it.
  void Unlink();

 private:
  ListeningSocket() = default;
  std::string path_;
  UniqueFd socket_;
  std::optional<gid_t> group_;
  dev_t device_ = 0;  // of the socket's file: only our own is removed
  ino_t inode_ = 0;
};

// Only in the pool's thread.
class Server {
 public:
  // Connections at once; more are told so and closed.
  static constexpr std::size_t kMaxPeers = 1024;
  // Bytes of messages that are not complete, over all peers.
  static constexpr std::size_t kMaxPartial = std::size_t{64} << 20;

  // Takes over the connection of a user who speaks HTTP instead.
  using TakeHttp = std::function<void(UniqueFd socket, uid_t uid)>;

  Server(Pool& pool, Service& service, ListeningSocket& socket, TakeHttp take_http)
      : pool_(pool), service_(service), socket_(socket), take_http_(std::move(take_http)) {}

  absl::Status Open();
  // Accepts no more connections.
  void StopListening();
  // Drops all peers. Nothing of the server is called afterwards.
  void Close();

 private:
  void Accept();
  void Receive(Peer& peer);
  bool SpeaksHttp(const Peer& peer);
  bool MayConnect(int socket, uid_t uid, gid_t gid) const;

  Pool& pool_;
  Service& service_;
  ListeningSocket& socket_;
  TakeHttp take_http_;
  std::optional<Pool::WatchId> accept_watch_;
  UniqueFd spare_;  // given up to accept and refuse when there are no descriptors left
  std::map<Peer*, std::shared_ptr<Peer>> peers_;
};

}  // namespace brood
