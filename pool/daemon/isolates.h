// SPDX-License-Identifier: Apache-2.0

// What the daemon knows of every isolate: those that wait and run, and the latest that have ended.
// How a detached one ended is known to no client until one asks. So these are kept apart from the
// others, and no number of commands in the foreground makes the daemon forget one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "pool/daemon/log_ring.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {

enum class IsolateState : std::uint8_t { kWaiting, kRunning, kEnded };
std::string_view IsolateStateName(IsolateState state);

struct Isolate {
  std::string id;    // 12 hexadecimal digits
  std::string name;  // empty: none
  std::string template_name;
  std::vector<std::string> argv;
  std::shared_ptr<const Spec> spec;
  uid_t owner = 0;  // who submitted it
  bool detached = false;
  std::chrono::system_clock::time_point submitted;

  IsolateState state = IsolateState::kWaiting;
  std::uint64_t request = 0;  // the pool's number
  std::int32_t host_pid = 0;
  std::string leaf;            // its cgroup's directory; empty: none of its own
  std::uint32_t id_first = 0;  // host id of its id 0
  SpawnPath path = SpawnPath::kParked;
  std::optional<SlotUse> slot;

  std::optional<Outcome> outcome;  // once ended, if there was a worker
  std::string refusal;             // why there was none
  std::unique_ptr<LogRing> logs;   // of a detached one

  bool told = false;  // a client has been told how it ended, or saw it

  // Called once when it has ended, on behalf of `owner`. Returns whether a client was told.
  struct OnEnd {
    const void* owner = nullptr;
    std::function<bool(const Isolate&)> call;
  };
  std::vector<OnEnd> on_end;
};

// A line of `brood ps`, or everything known of it (`whole`).
nlohmann::ordered_json ToJson(const Isolate& isolate, bool whole);

// Not thread-safe. Isolates stay where they are until forgotten.
class Isolates {
 public:
  struct Kept {
    std::size_t told = 256;        // that have ended, and a client knows how
    std::size_t unclaimed = 1024;  // detached ones that have ended and were not waited for
  };
  // Of so many forgotten ones the id and name are remembered.
  static constexpr std::size_t kForgottenKept = 4096;

  Isolates() = default;
  explicit Isolates(const Kept& kept) : kept_(kept) {}

  // A new one. kAlreadyExists when something that waits or runs has the name; kInvalidArgument when
  // it is no name ([a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 64, nothing that looks like an id).
  absl::StatusOr<Isolate*> Add(const std::string& name);
  // By id, name (first of those that have not ended), or beginning of an id. kNotFound, which
  // distinguishes a forgotten isolate from one that never was; kInvalidArgument, with the
  // candidates, when several ids begin so.
  absl::StatusOr<Isolate*> Find(std::string_view word);
  // By the whole id alone; null when there is none (any more).
  Isolate* ById(std::string_view id);
  // Marks it ended, calls what waits for that, and forgets those that ended first beyond the number
  // kept.
  void End(Isolate& isolate);
  // A client has been told how it ended: it is kept no longer than others.
  void Told(Isolate& isolate);
  // Calls nothing any more on behalf of `owner`.
  void DropOnEnd(const void* owner);
  // Removes one that was not started.
  void Remove(const Isolate& isolate);

  const std::list<Isolate>& all() const { return isolates_; }
  std::size_t living() const { return living_; }

 private:
  struct Forgotten {
    std::string id;
    std::string name;
    bool detached = false;
  };
  std::deque<Isolate*>& Ended(const Isolate& isolate) {
    return isolate.detached && !isolate.told ? unclaimed_ : told_;
  }
  void ForgetBeyond(std::size_t kept, std::deque<Isolate*>& ended);
  absl::Status NotFound(std::string_view word) const;

  Kept kept_;
  std::size_t living_ = 0;
  std::list<Isolate> isolates_;  // oldest first
  // Those that have ended, in this order.
  std::deque<Isolate*> told_;
  std::deque<Isolate*> unclaimed_;
  std::deque<Forgotten> forgotten_;
  bool forgot_more_ = false;  // than are in that list
};

}  // namespace brood
