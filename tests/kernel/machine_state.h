// SPDX-License-Identifier: Apache-2.0

// What a test must leave as it found it: descriptors, mounts, cgroups, children.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace brood {

// A snapshot of what spawning touches. Each entry is one sorted line fit for a diff.
class MachineState {
 public:
  static MachineState Take();

  // One line for each thing that is in one of the two only: "+ fd 7 -> /dev/null", "- mount ...".
  // Empty when nothing differs. Cgroups that are gone are not told.
  static std::string Diff(const MachineState& before, const MachineState& after);

  const std::vector<std::string>& lines() const { return lines_; }

 private:
  // "fd 7 -> socket:[8]"              open in this process
  // "mount 25 1 254:0 / /x ..."       in this process's mount namespace
  // "cgroup brood/4711-ab/worker"     brood's, below the cgroup2 mount; those of other living
  //                                   launchers left out
  // "child 4711 Z (sleep)"            of any of our threads, whatever its exit signal
  std::vector<std::string> lines_;
};

// Compares the machine after each test with before. Derived fixtures call SetUp first and TearDown
// last, so that what they hold for a test is gone by then.
class LeavesNothing : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

 private:
  std::optional<MachineState> before_;
};

}  // namespace brood
