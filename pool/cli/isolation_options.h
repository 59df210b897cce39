// The options that `brood run` and `brood burst` share: what fences a command gets.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/spec.h"

namespace brood {

// Words as typed; Resolve turns them into a Spec and a Command.
class IsolationOptions {
 public:
  // Adds the options to `app`. The object must outlive the parse.
  void AddTo(CLI::App& app);

  struct Resolved {
    Spec spec;
    Command command;
  };
  // `words`: program and arguments. kInvalidArgument with a sentence for the first word that is
  // wrong.
  absl::StatusOr<Resolved> Resolve(const std::vector<std::string>& words) const;

 private:
  std::string rootfs_;
  std::string root_mode_;
  std::string overlay_size_;
  std::vector<std::string> binds_;
  std::vector<std::string> tmpfs_;
  std::string tmp_size_;
  std::string net_ = "none";
  std::string hostname_ = "brood";
  std::vector<std::string> env_;
  bool clear_env_ = false;
  std::string cwd_ = "/";
  std::string user_;
  std::vector<std::string> capabilities_;
  std::string seccomp_ = "default";
  std::string memory_;
  std::string pids_;
  std::string cpus_;
  std::vector<std::string> rlimits_;
  std::string timeout_;
  std::string monotonic_offset_;
  std::string boottime_offset_;
  std::array<bool, kNamespaceCount> without_{};
  std::array<std::string, kNamespaceCount> join_;
  bool no_cgroup_leaf_ = false;
};

}  // namespace brood
