// SPDX-License-Identifier: Apache-2.0

// argv and envp as exec takes them.
#pragma once

#include <string>
#include <vector>

#include "spawn/spec.h"

namespace brood::bench {

// Borrows from the command, which must outlive it.
class ExecArguments {
 public:
  explicit ExecArguments(const Command& command) {
    for (const std::string& word : command.argv) argv_.push_back(const_cast<char*>(word.c_str()));
    for (const std::string& word : command.env) envp_.push_back(const_cast<char*>(word.c_str()));
    argv_.push_back(nullptr);
    envp_.push_back(nullptr);
  }
  const char* path() const { return argv_[0]; }
  char* const* argv() const { return argv_.data(); }
  char* const* envp() const { return envp_.data(); }

 private:
  std::vector<char*> argv_;
  std::vector<char*> envp_;
};

}  // namespace brood::bench
