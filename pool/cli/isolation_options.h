// SPDX-License-Identifier: Apache-2.0

// The options that commands share: how a command is isolated, and how it is started.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/cli/limit_options.h"
#include "spawn/spec.h"

namespace brood {

// Each class holds words as typed. AddTo adds its options to `app`, which it must outlive; Resolve
// gives kInvalidArgument with a sentence for the first word that is wrong.

// What a Spec is made of; also the keys of a template in the daemon's configuration.
class SpecOptions {
 public:
  void AddTo(CLI::App& app);
  absl::StatusOr<Spec> Resolve() const;
  // Where relative paths begin; without, where the process stands.
  void SetBase(std::string directory) { base_ = std::move(directory); }
  // Whether it is asked for that namespaces may be used again.
  bool asks_for_reuse() const { return !fresh_ && reuse_ == "namespaces"; }
  // The first option of these that was given, as "--rootfs"; empty: none.
  std::string FirstGiven() const;

 private:
  std::vector<CLI::Option*> options_;
  std::string base_;
  std::string rootfs_;
  std::string root_mode_;
  std::string overlay_size_;
  std::vector<std::string> binds_;
  std::vector<std::string> tmpfs_;
  std::string tmp_size_;
  std::string net_;
  std::optional<std::string> hostname_;
  std::string user_;
  std::vector<std::string> capabilities_;
  bool nesting_ = false;
  std::optional<std::string> reuse_;
  bool fresh_ = false;
  bool init_ = false;
  std::string seccomp_ = "default";
  LimitOptions limits_;
  std::vector<std::string> rlimits_;
  std::string monotonic_offset_;
  std::string boottime_offset_;
  std::array<bool, kNamespaceCount> without_{};
  std::array<std::string, kNamespaceCount> join_;
  bool no_cgroup_leaf_ = false;
};

// What a Command is made of, beside its words.
class ProcessOptions {
 public:
  void AddTo(CLI::App& app);
  // `words`: program and arguments.
  absl::StatusOr<Command> Resolve(const std::vector<std::string>& words) const;

 private:
  std::vector<std::string> env_;
  bool clear_env_ = false;
  std::string cwd_ = "/";
  std::string timeout_;
};

// Both.
class IsolationOptions {
 public:
  void AddTo(CLI::App& app);

  struct Resolved {
    Spec spec;
    Command command;
  };
  absl::StatusOr<Resolved> Resolve(const std::vector<std::string>& words) const;
  const SpecOptions& spec_options() const { return spec_options_; }

 private:
  SpecOptions spec_options_;
  ProcessOptions process_;
};

}  // namespace brood
