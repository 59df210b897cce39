// SPDX-License-Identifier: Apache-2.0

// Tells a load balancer how much this node takes: HAProxy's agent-check. Whoever connects may send
// a line with a function's name (agent-send), is told a line, and is let go.
//
//   ready up maxconn:12   this many calls at once        drain   no new ones
//   down#there is no function "x"
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "pool/core/timers.h"
#include "pool/core/watched.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Only in the pool's thread. Must live until the pool has been shut down.
class AgentCheck {
 public:
  // Of a function, or with "" of the node: the line, without its end.
  using Tell = std::function<std::string(const std::string& function)>;

  AgentCheck(Pool& pool, Timers& timers, Tell tell)
      : pool_(pool), timers_(timers), watch_(pool), tell_(std::move(tell)) {}

  // `socket` listens (ListenHttp).
  absl::Status Open(UniqueFd socket);
  void Close();

 private:
  static constexpr std::size_t kMostAskers = 64;  // at once; more are let go unanswered
  struct Asker {
    explicit Asker(Pool& pool) : watch(pool) {}
    UniqueFd socket;
    Watched watch;
    Timers::Id patience;
    std::string asked;
  };
  using Place = std::list<Asker>::iterator;

  void Accept();
  void Read(Place asker);
  void Answer(Place asker);

  Pool& pool_;
  Timers& timers_;
  UniqueFd socket_;
  Watched watch_;
  Tell tell_;
  std::list<Asker> askers_;
};

}  // namespace brood
