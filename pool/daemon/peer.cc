// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/peer.h"

#include <poll.h>
#include <sys/socket.h>

#include <utility>

#include "spawn/base/status.h"

namespace brood {

absl::Status Peer::Open(std::function<void()> receive, std::function<void()> gone) {
  gone_ = std::move(gone);
  // Held for the time of a call: what it does may drop the last other reference.
  BROOD_ASSIGN_OR_RETURN(
      read_watch_, pool_.Watch(connection_.fd(), POLLIN,
                               [self = weak_from_this(), receive = std::move(receive)](short) {
                                 if (const auto peer = self.lock(); peer && peer->open_) {
                                   receive();
                                 }
                               }));
  open_ = true;
  return absl::OkStatus();
}

absl::Status Peer::BeginJob() {
  if (std::exchange(job_, true)) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "this connection already waits for the answer to a tree or stats request");
  }
  return absl::OkStatus();
}

absl::Status Peer::BeginWait() {
  if (waits_ >= kMaxWaits) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "this connection already waits for {} answers (wait, stop, logs): read some of "
                 "them first, or open another connection",
                 waits_);
  }
  ++waits_;
  return absl::OkStatus();
}

void Peer::Refuse(std::uint64_t tag, const absl::Status& why) {
  Answer(tag, Refusal{static_cast<std::int32_t>(why.code()), std::string(Message(why))});
}

void Peer::AnswerBody(MessageType type, std::uint64_t tag, const std::string& body) {
  if (!open_ || closing_) return;
  const absl::Status sent = connection_.SendBody(type, tag, body);
  if (!sent.ok() || connection_.queued_bytes() > kMaxQueued) {
    Close();
    return;
  }
  if (connection_.queued_bytes() == 0 || writing_) return;
  absl::StatusOr<Pool::WatchId> watch =
      pool_.Watch(connection_.fd(), POLLOUT, [self = weak_from_this()](short) {
        if (const auto peer = self.lock()) peer->OnWritable();
      });
  if (!watch.ok()) {
    Close();
    return;
  }
  writing_ = true;
  write_watch_ = *watch;
}

void Peer::OnWritable() {
  if (!open_) return;
  const bool was_congested = congested();
  if (!connection_.Flush().ok()) {
    Close();
    return;
  }
  if (was_congested && !congested() && on_drained) on_drained();
  if (!open_ || connection_.queued_bytes() > 0) return;
  pool_.Unwatch(write_watch_);
  writing_ = false;
  if (closing_) Close();
}

void Peer::CloseWhenSent() {
  // Nothing it says counts any more.
  if (!std::exchange(closing_, true) && open_) pool_.Unwatch(read_watch_);
  if (connection_.queued_bytes() == 0) Close();
}

void Peer::Close() {
  if (!open_) return;
  // The ring may still hold the socket for a moment; the other end hears of it now.
  shutdown(connection_.fd(), SHUT_RDWR);
  Leave();
}

UniqueFd Peer::Release() {
  Leave();
  return connection_.Release();
}

void Peer::Leave() {
  if (!std::exchange(open_, false)) return;
  pool_.Unwatch(read_watch_);
  if (std::exchange(writing_, false)) pool_.Unwatch(write_watch_);
  // Not from here: whoever is answering may be in the middle of a list that this would change.
  pool_.Post([self = shared_from_this()] {
    if (const auto gone = std::exchange(self->gone_, nullptr)) gone();
  });
}

}  // namespace brood
