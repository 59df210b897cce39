// SPDX-License-Identifier: Apache-2.0

// The service's part that keeps what detached isolates write, and tells it to whoever asks.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "pool/daemon/log_ring.h"
#include "pool/daemon/service.h"
#include "spawn/base/status.h"

namespace brood {

absl::StatusOr<std::shared_ptr<Service::OutputPipes>> Service::OpenLogs(Isolate& isolate) {
  auto pipes = std::make_shared<OutputPipes>();
  pipes->null.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!pipes->null.valid()) return ErrnoError(errno, "opening /dev/null");
  isolate.logs = std::make_unique<LogRing>(options_.log_bytes);
  for (std::size_t i = 0; i < 2; ++i) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe for the output");
    pipes->readers[i].reset(ends[0]);
    pipes->writers[i].reset(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
  }
  for (std::size_t i = 0; i < 2; ++i) {
    BROOD_ASSIGN_OR_RETURN(pipes->watches[i],
                           pool_.Watch(pipes->readers[i].get(), POLLIN,
                                       [this, &isolate, weak = std::weak_ptr(pipes), i](short) {
                                         if (const auto open = weak.lock())
                                           ReadLogPipe(isolate, *open, i);
                                       }));
  }
  return pipes;
}

void Service::ReadLogPipe(Isolate& isolate, OutputPipes& pipes, std::size_t stream) {
  UniqueFd& reader = pipes.readers[stream];
  if (!reader.valid()) return;
  // A bounded piece at a time: a worker that writes without end must not keep the others waiting.
  std::array<char, 65536> buffer;
  const ssize_t got = read(reader.get(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    pool_.Unwatch(pipes.watches[stream]);
    reader.reset();
    return;
  }
  const auto count = static_cast<std::size_t>(got);
  if (CheckMemory().ok()) {
    isolate.logs->Append(static_cast<std::uint8_t>(stream + 1), {buffer.data(), count});
  } else {
    isolate.logs->Lose(count);
  }
  Pump(isolate.id);
}

// All that had the writing ends is gone: what is in the pipes is all there will be.
void Service::DrainLogs(Isolate& isolate, OutputPipes& pipes) {
  for (UniqueFd& writer : pipes.writers) writer.reset();
  for (std::size_t i = 0; i < 2; ++i) {
    // A bounded number of reads: a writing end can have been passed on to somebody who goes on.
    for (int reads = 0; pipes.readers[i].valid() && reads < 32; ++reads) {
      const std::uint64_t before = isolate.logs->end();
      ReadLogPipe(isolate, pipes, i);
      if (isolate.logs->end() == before) break;
    }
    if (pipes.readers[i].valid()) {
      pool_.Unwatch(pipes.watches[i]);
      pipes.readers[i].reset();
    }
  }
}

absl::Status Service::OnLogs(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const ReadLogs logs, DecodeBody<ReadLogs>(message.body));
  BROOD_ASSIGN_OR_RETURN(const Isolate* const isolate, isolates_.Find(logs.isolate));
  BROOD_RETURN_IF_ERROR(MayTouch(*peer, *isolate, "read its output"));
  if (!isolate->logs) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the output of {} went straight to its client; only the output of detached "
                 "isolates (submit -d) is kept",
                 isolate->id);
  }
  BROOD_RETURN_IF_ERROR(peer->BeginWait());
  followers_.push_back({peer, message.header.tag, isolate->id, 0, logs.follow != 0});
  peer->on_drained = [this, weak = std::weak_ptr<Peer>(peer)] {
    std::vector<std::string> read;
    for (const Follower& follower : followers_) {
      if (follower.peer.lock() == weak.lock()) read.push_back(follower.isolate);
    }
    for (const std::string& id : read) Pump(id);
  };
  Pump(isolate->id);
  return absl::OkStatus();
}

// Sends to all who read an isolate's output what they have not seen yet.
void Service::Pump(const std::string& isolate) {
  followers_.remove_if([&](Follower& follower) {
    if (follower.isolate != isolate || PumpOne(follower)) return false;
    if (const auto peer = follower.peer.lock()) peer->EndWait();
    return true;
  });
}

// False when there is nothing more to come.
bool Service::PumpOne(Follower& follower) {
  const auto peer = follower.peer.lock();
  if (!peer || !peer->open()) return false;
  const Isolate* const isolate = isolates_.ById(follower.isolate);
  if (isolate == nullptr) {
    peer->Refuse(follower.tag, Error(absl::StatusCode::kNotFound, "{} has been forgotten meanwhile",
                                     follower.isolate));
    return false;
  }
  while (!peer->congested()) {
    const std::optional<LogRing::Part> part = isolate->logs->Read(follower.position);
    if (part) {
      peer->Answer(follower.tag, LogPart{part->stream, part->lost, std::string(part->bytes)});
      continue;
    }
    if (follower.follow && isolate->state != IsolateState::kEnded) return true;
    peer->AnswerDone(follower.tag);
    return false;
  }
  return true;
}

}  // namespace brood
