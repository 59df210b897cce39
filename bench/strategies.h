// What each way of spawning a program costs, from bare to behind all fences.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bench/row.h"
#include "pool/burst.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood::bench {

// Names of the rows, each one program at a time, from the caller's first call to reaped.
inline constexpr char kSpawnFloor[] = "spawn/clone3-vfork";  // FloorSpawner: spawn/floor.h
inline constexpr char kSpawnFork[] = "spawn/fork";
inline constexpr char kSpawnVfork[] = "spawn/vfork";
inline constexpr char kSpawnPosix[] = "spawn/posix_spawn";
inline constexpr char kSpawnNamespaces[] = "spawn/clone3-namespaces";
inline constexpr char kSpawnCold[] = "spawn/brood-cold";
inline constexpr char kSpawnZygote[] = "spawn/brood-zygote";
inline constexpr char kSpawnParked[] = "spawn/brood-parked";
inline constexpr char kBurst[] = "spawn/burst";  // not a Row: see IsolatedBurst

// What all of them run: `payload`, an absolute path, with no arguments and no environment.
Command PayloadCommand(const std::string& payload);

// Whether `payload` can be executed here, and would be seen by a worker whose root is the host's
// tree: /tmp, /run and /dev are private inside.
absl::Status CheckPayload(const std::string& payload);

// The rows above. brood's run in the default Spec: eight namespaces, a cgroup each, a read-only
// root, no capabilities, the seccomp filter. `command` must outlive them.
std::vector<Row> SpawnRows(const Command& command);

// What brood wanted, could not have, and did instead, in one line.
std::string FallbackText(const std::vector<Fallback>& fallbacks);

// The row that leads: `count` isolated processes asked for at once, out of as many parked workers.
BurstOptions IsolatedBurst(const Command& command, std::uint32_t count);

}  // namespace brood::bench
