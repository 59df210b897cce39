// SPDX-License-Identifier: Apache-2.0

// All that is measured, one function a section. Each makes what its rows need when they run, not
// before, and says of a row that cannot run here why.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/harness/row.h"
#include "spawn/spec.h"

namespace brood::bench {

// The pause before each iteration of rows whose names end in "/idle".
inline constexpr std::chrono::milliseconds kQuiet{20};

struct Setup {
  Command payload;          // the static program that only exits; no arguments, no environment
  Command dynamic_payload;  // the same, linked with libc as most programs are
  Command echo;             // a static program that writes what it reads
  std::string brood;        // the command line program, for its whole command
  std::filesystem::path scratch;  // an empty directory of this run's own
  // Whether cgroup2 may be remounted with favordynmods: from some kernel on (seen on 6.18) its
  // effect stays until the next boot, for everybody.
  bool may_favor_dynmods = false;
};

// `setup` must outlive the rows.
std::vector<Row> FloorRows(const Setup& setup);      // starting a process with no isolation
std::vector<Row> NamespaceRows(const Setup& setup);  // making and entering each namespace
std::vector<Row> TeardownRows(const Setup& setup);   // until what has ended is gone
std::vector<Row> CgroupRows(const Setup& setup);     // a cgroup of its own
std::vector<Row> MountRows(const Setup& setup);      // a tree of its own
std::vector<Row> FenceRows(const Setup& setup);      // filter, capabilities, ids, limits
std::vector<Row> WaitRows(const Setup& setup);       // hearing of the ends of thousands
std::vector<Row> PathRows(const Setup& setup);       // brood's ways of spawning, and their floors
std::vector<Row> LoadRows(const Setup& setup);       // latency at an offered load
std::vector<Row> ScaleRows(const Setup& setup);      // zygotes, processors, pool sizes, memory

}  // namespace brood::bench
