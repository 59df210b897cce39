// SPDX-License-Identifier: Apache-2.0

// How a worker ended and what it used: one struct, one JSON object, the same everywhere.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/failure.h"
#include "spawn/usage.h"

namespace brood {

// How a worker was started.
enum class SpawnPath : std::uint8_t {
  kCold,
  kZygote,
  kParked,
  kForked,  // a clone of a function's process; for functions only
};
std::string_view SpawnPathName(SpawnPath path);

enum class End : std::uint8_t {
  kExited,       // exit_code is its status
  kSignalled,    // `signal` ended it
  kTimeout,      // its wall clock ran out and its whole cgroup was killed
  kKilled,       // the caller killed it
  kOom,          // the OOM killer killed it: CauseOfOom(usage) tells why
  kSetupFailed,  // it did not come to run the command: `failure` and `message` say why
  kUnknown,      // it has ended, but how is not known: `message` says why
};
std::string_view EndName(End end);

// Something that was wanted but not available, and what was used instead.
struct Fallback {
  std::string wanted;
  std::string used;
  int error = 0;  // errno, 0 when there was none
};

// A moment of a worker's life.
struct Moment {
  std::string name;
  double at_us = 0;  // since the launcher took the request
};

// The slot that a worker lived in.
struct SlotUse {
  std::uint32_t number = 0;  // within its pool
  std::uint32_t used = 0;    // workers that its namespaces had before this one; 0: new
};

struct Outcome {
  std::uint64_t id = 0;
  std::string template_name;
  SpawnPath spawn_path = SpawnPath::kCold;
  std::vector<Fallback> fallbacks;  // empty when nothing was missing
  // Absent when all its namespaces were made for it; `fresh` says why.
  std::optional<SlotUse> slot;
  std::string fresh;

  std::int32_t host_pid = 0;
  std::int32_t inside_pid = 0;  // 0: not known, in a pid namespace that was joined

  End end = End::kSetupFailed;
  int exit_code = 0;
  int signal = 0;
  Failure failure;      // of a child that never reached exec
  std::string message;  // the sentence for it

  std::vector<Moment> timeline;
  double wall_us = 0;  // request to reaped
  double park_us = 0;  // preparing the parked worker, before the request; 0 for other paths

  // Absent, not zero, where the kernel did not say.
  std::optional<double> cpu_us;  // of the worker and all that it waited for
  // Of its cgroup. Read when the worker has limits or SIGKILL has ended it; all absent otherwise.
  LeafUsage usage;
  // A sentence for each limit that was met, whether or not it ended the worker: see LimitsMet.
  std::vector<std::string> limits_met;

  std::string out;  // captured stdout and stderr
  std::string err;
  std::uint64_t out_bytes = 0;  // written by the worker, kept or not
  std::uint64_t err_bytes = 0;
  bool truncated() const { return out_bytes > out.size() || err_bytes > err.size(); }

  bool ok() const { return end == End::kExited && exit_code == 0; }
};

// The exit status a command line reports for it: the command's; 128+n for signal n; 124 timeout;
// 125 brood's own failure; 126 not executable; 127 not found.
int ExitStatus(const Outcome& outcome);

// For whoever reads it: the outcome's message, or what became of the command.
std::string EndText(const Outcome& outcome);
// "wanted A, used B (EPERM: ...)", and several one after the other; empty for none.
std::string ToText(const Fallback& fallback);
std::string ToText(const std::vector<Fallback>& fallbacks);

nlohmann::ordered_json ToJson(const Outcome& outcome);
nlohmann::ordered_json ToJson(const SlotUse& slot);
nlohmann::ordered_json ToJson(const std::vector<Fallback>& fallbacks);

}  // namespace brood
