// SPDX-License-Identifier: Apache-2.0

// A burst: many runs of one command through a pool, beside the same number of bare processes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/pool.h"

namespace brood {

struct BurstOptions {
  Spec spec;
  Command command;
  std::uint32_t count = 1000;
  std::uint32_t concurrency = 0;  // requests under way at once; 0: all
  SpawnPath path = SpawnPath::kParked;
  std::uint32_t parked = 0;         // workers kept parked; 0: `count`, at most 1000
  std::uint32_t zygotes = 0;        // as in TemplateOptions
  std::uint32_t launch_window = 0;  // as in PoolOptions
  // The socket of a daemon that serves the requests with its template; empty: a pool of our own.
  std::string socket;
  std::string template_name;  // with `socket`; empty: the daemon's first
  bool floor = true;          // measure the floor, too
  // Told now and then how far it is, from this thread: what is being done, done, of how many.
  std::function<void(const char*, std::uint32_t, std::uint32_t)> progress;
};

struct LatencySummary {
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

struct BurstReport {
  std::uint32_t count = 0;
  std::uint32_t failed = 0;
  std::string first_failure;
  double wall_us = 0;
  double rate_per_s = 0;
  LatencySummary latency_us;  // Submit to reaped
  LatencySummary floor_us;    // asked for to reaped
  double floor_rate_per_s = 0;
  std::map<std::string, std::uint32_t> path;  // how many took each
  std::vector<Fallback> fallbacks;            // of the first outcome that has any
  SlotStats slots;
  double park_us_p50 = 0;
  double park_bytes = 0;  // memory of one parked worker; 0 where it could not be told
  struct LeftBehind {
    int processes = 0;
    int cgroups = 0;
    int mounts = 0;
    int fds = 0;
    bool any() const { return processes != 0 || cgroups != 0 || mounts != 0 || fds != 0; }
  } left_behind;

  double RateRatio() const { return floor_rate_per_s > 0 ? rate_per_s / floor_rate_per_s : 0; }
};

// Runs it; blocks. The floor runs at the same concurrency, interleaved: with one request at a time,
// one bare process after each request; with more, before and after the requests, since two bursts
// at once would measure each other.
absl::StatusOr<BurstReport> RunBurst(const BurstOptions& options);

nlohmann::ordered_json ToJson(const BurstReport& report);

}  // namespace brood
