// SPDX-License-Identifier: Apache-2.0

// brood run, for its tests.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/kernel/machine_state.h"
#include "tests/program.h"

namespace brood {

class RunTest : public LeavesNothing {
 protected:
  void SetUp() override {
    ASSERT_EQ(access(BROOD_PROGRAM, X_OK), 0) << "missing: " << BROOD_PROGRAM;
    LeavesNothing::SetUp();
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override {
    std::filesystem::remove_all(directory_);
    LeavesNothing::TearDown();
  }

  std::string Json() const { return "--json=" + (directory_ / "o.json").string(); }

  static int Status(const Words& arguments) {
    Brood brood(Words{"run"} + arguments);
    return brood.Wait();
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) / fmt::format("brood_run_{}", getpid());
};

}  // namespace brood
