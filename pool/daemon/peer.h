// SPDX-License-Identifier: Apache-2.0

// One client as the daemon sees it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "pool/daemon/connection.h"
#include "pool/pool.h"

namespace brood {

// Only in the pool's thread. Held by the server until it is gone, and by answers still to come
// through weak pointers.
class Peer : public std::enable_shared_from_this<Peer> {
 public:
  // A peer that lets more than this pile up unread is dropped.
  static constexpr std::size_t kMaxQueued = std::size_t{8} << 20;

  Peer(Pool& pool, UniqueFd socket, uid_t uid)
      : pool_(pool), connection_(std::move(socket)), uid_(uid) {}

  uid_t uid() const { return uid_; }  // SO_PEERCRED: as it was when it connected

  // Does nothing once the peer is gone.
  template <typename M>
  void Answer(std::uint64_t tag, const M& message) {
    AnswerBody(M::kType, tag, EncodeBody(message));
  }
  void AnswerDone(std::uint64_t tag) { AnswerBody(MessageType::kDone, tag, {}); }
  void Refuse(std::uint64_t tag, const absl::Status& why);

  // It reads more slowly than it is written to: what can wait should, until `on_drained`.
  bool congested() const { return connection_.queued_bytes() > (256U << 10); }
  std::function<void()> on_drained;

  // A job in another thread on its behalf: one at a time, or they would pile up.
  absl::Status BeginJob();
  template <typename M>
  void EndJob(std::uint64_t tag, const M& message) {
    job_ = false;
    Answer(tag, message);
  }

  // An answer that is still to come when something ends or is written (wait, stop, logs). Many on
  // one connection are refused: each is held until then.
  static constexpr std::size_t kMaxWaits = 1024;
  absl::Status BeginWait();
  void EndWait() { --waits_; }

  // What it runs in the foreground: the pool's request of each tag.
  std::map<std::uint64_t, std::uint64_t> foreground;

  bool has_spoken = false;  // something has come from it

  // For the server. `receive` is called when there is something to read, `gone` once, when the
  // connection has ended from either side.
  absl::Status Open(std::function<void()> receive, std::function<void()> gone);
  Connection& connection() { return connection_; }
  const Connection& connection() const { return connection_; }
  void Close();
  // Close, but that the socket lives on.
  UniqueFd Release();
  // Closes once what is queued has been sent, or cannot be.
  void CloseWhenSent();
  bool open() const { return open_; }

 private:
  void AnswerBody(MessageType type, std::uint64_t tag, const std::string& body);
  void OnWritable();
  void Leave();

  Pool& pool_;
  Connection connection_;
  uid_t uid_;
  bool open_ = false;
  bool closing_ = false;
  bool job_ = false;
  std::size_t waits_ = 0;
  bool writing_ = false;  // write_watch_ is set
  Pool::WatchId read_watch_ = 0;
  Pool::WatchId write_watch_ = 0;
  std::function<void()> gone_;
};

}  // namespace brood
