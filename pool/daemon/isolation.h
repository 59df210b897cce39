// SPDX-License-Identifier: Apache-2.0

// What the kernel tells of the isolation of each process: read from /proc and the cgroup tree.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pool/pool.h"
#include "spawn/spec.h"

namespace brood {

struct RunningIsolate {
  std::string id;
  std::string name;
  std::int32_t host_pid = 0;
  std::string cgroup;  // directory; empty: none of its own
};

// One process: {pid, inside_pid, ppid, uid, inside_uid, command, cgroup, namespaces: {NAME: inode},
// own: [NAME...]}, where `own` names those that differ from this process's. Null when it is gone.
nlohmann::ordered_json IsolationOf(std::int32_t pid);

// This process and all below it, each as in IsolationOf with `role` (daemon, zygote, slot,
// parked, isolate, exec, process), `id` and `name` of an isolate and of what was started inside it,
// and `children`. Parked workers, and the processes that keep slots, are only counted, as `parked`
// and `slots` of the daemon, unless `all`. Takes a few system calls for each process of the
// machine.
nlohmann::ordered_json IsolateTree(const std::vector<RunningIsolate>& running,
                                   const std::vector<RunningIsolate>& execs,
                                   const std::vector<int>& zygotes, const std::vector<int>& slots,
                                   bool all);

// The pool's counters, and of each isolate what its cgroup has used.
nlohmann::ordered_json StatsJson(const PoolStats& stats,
                                 const std::vector<RunningIsolate>& running);

}  // namespace brood
