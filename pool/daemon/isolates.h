// What the daemon knows of every isolate: those that wait and run, and the latest that have ended.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
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

  std::optional<Outcome> outcome;  // once ended, if there was a worker
  std::string refusal;             // why there was none
  std::unique_ptr<LogRing> logs;   // of a detached one

  std::uint64_t ended_as = 0;  // counts ends; 0 while it lives

  // Called once when it has ended, on behalf of `owner`.
  struct OnEnd {
    const void* owner = nullptr;
    std::function<void(const Isolate&)> call;
  };
  std::vector<OnEnd> on_end;
};

// A line of `brood ps`, and all there is to know (`whole`).
nlohmann::ordered_json ToJson(const Isolate& isolate, bool whole);

// Not thread-safe. Isolates stay where they are until forgotten.
class Isolates {
 public:
  explicit Isolates(std::size_t ended_kept = 256) : ended_kept_(ended_kept) {}

  // A new one. kAlreadyExists when something that waits or runs has the name; kInvalidArgument when
  // it is no name ([a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 64, nothing that looks like an id).
  absl::StatusOr<Isolate*> Add(const std::string& name);
  // By id, name (of what has not ended first), or beginning of an id. kNotFound, or
  // kInvalidArgument with the candidates when several begin so.
  absl::StatusOr<Isolate*> Find(std::string_view word);
  // By the whole id alone; null when there is none (any more).
  Isolate* ById(std::string_view id);
  // Marks it ended, calls what waits for that, and forgets the oldest beyond the number kept.
  void End(Isolate& isolate);
  // Calls nothing any more on behalf of `owner`.
  void DropOnEnd(const void* owner);
  // Takes away one that came to nothing.
  void Remove(const Isolate& isolate);

  const std::list<Isolate>& all() const { return isolates_; }
  std::size_t living() const { return living_; }

 private:
  std::size_t ended_kept_;
  std::size_t living_ = 0;
  std::uint64_t ends_ = 0;
  std::list<Isolate> isolates_;  // oldest first
};

}  // namespace brood
