// SPDX-License-Identifier: Apache-2.0

// What a command leaves behind on the machine, and clearing it away.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace brood::bench {

// Where to look. Only what lies there is ever counted or touched: others use the machine, too.
struct Territory {
  std::vector<std::string> directories;  // files in them, and mounts on or below them
  std::vector<std::string> cgroups;      // names at the root of any cgroup hierarchy
};

struct Leftovers {
  std::set<pid_t> processes;         // that nobody waits for but us, zombies too
  std::set<pid_t> zombies;           // of these, those that have ended
  std::vector<std::string> mounts;   // mount points, in the order they were made
  std::vector<std::string> cgroups;  // directories, each before those in it
  std::vector<std::string> files;    // directories, too; the outermost only

  std::size_t count() const {
    return processes.size() + mounts.size() + cgroups.size() + files.size();
  }
  std::string Text() const;  // for a reader, one line
};

// Takes note of how the machine is, and of what is more later. While it lives, this process is the
// reaper of its orphaned descendants (PR_SET_CHILD_SUBREAPER), so that none goes unseen. Children
// that others of this process start meanwhile are taken for leftovers. Not thread-safe.
class LeftoverWatch {
 public:
  explicit LeftoverWatch(Territory territory);
  ~LeftoverWatch();
  LeftoverWatch(const LeftoverWatch&) = delete;
  LeftoverWatch& operator=(const LeftoverWatch&) = delete;

  // What is there now that was not. Whatever is about to end of itself has `grace` for it.
  Leftovers Find(std::chrono::milliseconds grace = std::chrono::milliseconds(200)) const;

  // Kills, unmounts and removes all that Find finds, and what comes to light by that. What is still
  // there afterwards.
  Leftovers Clear() const;

 private:
  Leftovers Look() const;

  Territory territory_;
  int was_subreaper_ = 0;
  std::set<pid_t> processes_;
  std::map<std::string, int> mounts_;  // mounts on each point: one may cover another
  std::set<std::string> cgroups_;
  std::set<std::string> files_;
};

}  // namespace brood::bench
