// SPDX-License-Identifier: Apache-2.0

// What the daemon does for its clients: one function for each message.
//
//   Peer -> Handle -> OnSubmit ... -> Pool -> the worker starts and ends -> Peer
//
// All of it runs in the pool's thread, so that a launch waits for no other.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/timers.h"
#include "pool/daemon/isolates.h"
#include "pool/daemon/isolation.h"
#include "pool/daemon/peer.h"
#include "pool/daemon/protocol.h"
#include "pool/pool.h"

namespace brood {

class Service {
 public:
  struct Options {
    std::size_t log_bytes = std::size_t{256} << 10;       // kept of each detached isolate's output
    std::size_t max_held_fds = 4096;                      // of clients' commands that wait or run
    std::size_t max_held_bytes = std::size_t{256} << 20;  // of their arguments and environments
    std::size_t max_unclaimed = 1024;  // detached ones that have ended and were not waited for
    std::uint32_t max_running = 0;     // for the sentence that says they are taken
    // Runs a job that may take its time in another thread.
    std::function<void(std::function<void()>)> elsewhere;
    // Whether memory has run out (MemoryReserve): new work is refused. May be null.
    std::function<bool()> memory_is_short;
    // Told of every isolate that has ended; may be null.
    std::function<void(const Isolate&)> log_end;
  };

  Service(Pool& pool, Options options)
      : pool_(pool),
        options_(std::move(options)),
        timers_(pool),
        isolates_({.unclaimed = options_.max_unclaimed}) {}

  absl::Status Open() { return timers_.Open(); }
  void Close() { timers_.Close(); }

  // Templates that submissions may name; the first is the default.
  using Templates = std::vector<std::pair<std::string, std::shared_ptr<const Spec>>>;
  void SetTemplates(Templates templates) { templates_ = std::move(templates); }

  // Answers the message, now or later. Whatever is wrong with it is answered, too.
  void Handle(const std::shared_ptr<Peer>& peer, Incoming message);
  // kResourceExhausted, with what to do, while memory has run out.
  absl::Status CheckMemory() const;
  // Ends what the peer runs in the foreground.
  void Vanished(Peer& peer);

  // Refuses new commands; `idle` is called once nothing runs any more.
  void Drain(std::function<void()> idle);
  // Ends all that runs.
  void KillAll();

 private:
  using PeerPtr = std::shared_ptr<Peer>;
  struct Follower {
    std::weak_ptr<Peer> peer;
    std::uint64_t tag = 0;
    std::string isolate;
    std::uint64_t position = 0;
    bool follow = false;
  };

  absl::Status OnSubmit(const PeerPtr& peer, Incoming& message);
  // The client that submitted an isolate, and the tag of that message.
  struct Submitter {
    std::weak_ptr<Peer> peer;
    std::uint64_t tag = 0;
  };
  void OnStarted(Isolate& isolate, const Submitter& submitter, const Started& started);
  static void TellEnd(Isolate& isolate, const Submitter& submitter,
                      const absl::StatusOr<Outcome>& outcome);
  absl::Status OnExec(const PeerPtr& peer, Incoming& message);
  absl::Status OnSignal(const PeerPtr& peer, const Incoming& message);
  absl::Status OnAskReads(const PeerPtr& peer, const Incoming& message);
  absl::Status OnStop(const PeerPtr& peer, const Incoming& message);
  absl::Status OnWait(const PeerPtr& peer, const Incoming& message);
  absl::Status OnList(const PeerPtr& peer, const Incoming& message);
  absl::Status OnInspect(const PeerPtr& peer, const Incoming& message);
  absl::Status OnLogs(const PeerPtr& peer, const Incoming& message);
  absl::Status OnStats(const PeerPtr& peer, const Incoming& message);
  absl::Status OnTree(const PeerPtr& peer, const Incoming& message);

  // The pipes that a detached worker writes into.
  struct OutputPipes {
    UniqueFd null;
    std::array<UniqueFd, 2> writers;
    std::array<UniqueFd, 2> readers;
    std::array<Pool::WatchId, 2> watches{};
  };
  absl::StatusOr<std::shared_ptr<OutputPipes>> OpenLogs(Isolate& isolate);
  void DrainLogs(Isolate& isolate, OutputPipes& pipes);
  void ReadLogPipe(Isolate& isolate, OutputPipes& pipes, std::size_t stream);
  void Pump(const std::string& isolate);
  bool PumpOne(Follower& follower);
  std::shared_ptr<const Spec> SpecOf(const Started& started);
  // What a client's command costs the daemon until it has ended.
  struct Held {
    std::size_t fds = 0;
    std::size_t bytes = 0;
  };
  absl::Status Hold(const Held& more);
  void LetGo(const Held& held);
  void OnEnded(Isolate& isolate, absl::StatusOr<Outcome> outcome);
  void EndPatience(const std::string& id, std::chrono::nanoseconds waited);
  absl::StatusOr<Isolate*> FindRunning(const std::string& word);
  absl::Status MayTouch(const Peer& peer, const Isolate& isolate, std::string_view what) const;
  void CheckIdle();

  Pool& pool_;
  Options options_;
  Timers timers_;
  Templates templates_;
  Isolates isolates_;
  std::list<Follower> followers_;
  // By id, of what has not ended: when it is to be killed, and when its wait is over.
  std::map<std::string, Timers::Id> stop_timers_;
  std::map<std::string, Timers::Id> patience_timers_;
  std::map<std::uint64_t, RunningIsolate> execs_;  // that run, by the pool's number
  Held held_;                                      // in all
  const Spec* served_spec_ = nullptr;  // the template's spec that `served_copy_` is a copy of
  std::shared_ptr<const Spec> served_copy_;
  std::function<void()> idle_;  // set: draining
};

}  // namespace brood
