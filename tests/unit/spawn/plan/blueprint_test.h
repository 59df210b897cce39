// SPDX-License-Identifier: Apache-2.0

// Blueprints of all kinds, to be looked at.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/child/plan.h"
#include "spawn/host/machine.h"
#include "spawn/host/without.h"
#include "spawn/plan/blueprint.h"
#include "spawn/plan/plan_builder.h"

namespace brood {

inline void ExpectInside(const Plan& plan, const OpList& list) {
  EXPECT_EQ(list.offset % 8, 0U);
  EXPECT_LE(list.offset + list.count * sizeof(Op), plan.bytes);
}

// The operations of a worker by name, for looking at.
inline std::vector<Step> StepsOf(const Plan& plan, const OpList& list) {
  std::vector<Step> steps;
  for (std::uint32_t i = 0; i < list.count; ++i) steps.push_back(plan.ops(list)[i].step);
  return steps;
}

class BlueprintTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"proc", "dev", "tmp", "sys", "etc"}) {
      std::filesystem::create_directories(root_ / name);
    }
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static Blueprint Make(const Spec& spec, PlanKind kind = PlanKind::kCold) {
    auto blueprint = Blueprint::Make(spec, kind);
    EXPECT_TRUE(blueprint.ok()) << Message(blueprint.status());
    return *std::move(blueprint);
  }

  // The sentence with which `spec` is refused.
  static std::string Refusal(const Spec& spec, absl::StatusCode code) {
    const auto blueprint = Blueprint::Make(spec, PlanKind::kCold);
    if (blueprint.ok()) return "<it was taken>";
    EXPECT_EQ(blueprint.status().code(), code) << blueprint.status();
    return std::string(Message(blueprint.status()));
  }

  Spec Rooted(RootMode mode) const {
    Spec spec;
    spec.root.mode = mode;
    spec.root.directory = root_;
    return spec;
  }

  // Only with these does a worker have power over namespaces that exist already.
  static Spec WithHostUsers() {
    Spec spec;
    spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
    spec.uid = ThisMachine().uid;
    spec.gid = ThisMachine().gid;
    return spec;
  }

  std::string Write(std::string_view name, std::string_view text) const {
    const std::filesystem::path path = root_ / name;
    std::ofstream(path) << text;
    return path;
  }

  const std::filesystem::path root_ =
      std::filesystem::path(::testing::TempDir()) / fmt::format("brood_plan_{}", getpid());
};

// CLONE_NEWTIME where exec enters what was unshared; else a worker is born into it.
inline std::uint64_t UnsharedTime() {
  return ThisMachine().exec_enters_time ? kernel::kCloneNewTime : 0;
}

// Whether a worker of no special spec shares its parent's memory.
inline int Shared() { return ThisMachine().exec_enters_time ? 1 : 0; }

}  // namespace brood
