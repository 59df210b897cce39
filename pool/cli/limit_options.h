// SPDX-License-Identifier: Apache-2.0

// The options that set limits: of a template or a cold command, and of one submission.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/spec.h"

namespace brood {

// Holds words as typed. AddTo adds the options to `app`, which it must outlive, under the heading
// `group`; Resolve gives kInvalidArgument with a sentence for the first word that is wrong. It
// looks for the disks that --io-max names, and so has to be called where their paths mean them.
class LimitOptions {
 public:
  void AddTo(CLI::App& app, const std::string& group);
  absl::StatusOr<Limits> Resolve() const;

 private:
  std::string memory_;
  std::string memory_high_;
  std::string memory_swap_;
  std::string pids_;
  std::string cpus_;
  std::string cpu_period_;
  std::string cpu_weight_;
  std::string cpuset_cpus_;
  std::string cpuset_mems_;
  std::vector<std::string> io_max_;
  std::string io_weight_;
};

}  // namespace brood
