// SPDX-License-Identifier: Apache-2.0

// Switches that forbid user namespaces and io_uring, from a /proc of the test's own.
#include "spawn/host/switches.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace brood {
namespace {

class SwitchesTest : public ::testing::Test {
 protected:
  ~SwitchesTest() override { std::filesystem::remove_all(proc_); }
  void Set(const std::string& file, const std::string& value) const {
    const std::filesystem::path path = proc_ / "sys" / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << value << "\n";
  }
  std::string UserNamespaces() const {
    const auto found = UserNamespaceSwitch(proc_);
    return found ? found->Sentence() : "none";
  }
  std::string Rings() const {
    const auto found = RingSwitch(proc_);
    return found ? found->Sentence() : "none";
  }

  const std::filesystem::path proc_ =
      std::filesystem::path(::testing::TempDir()) / fmt::format("brood_switches_{}", getpid());
};

TEST_F(SwitchesTest, AKernelWithoutThemHasNone) {
  EXPECT_EQ(UserNamespaces(), "none");
  EXPECT_EQ(Rings(), "none");
}

TEST_F(SwitchesTest, ThoseThatAllowAreNotTold) {
  Set("user/max_user_namespaces", "15000");
  Set("kernel/unprivileged_userns_clone", "1");
  Set("kernel/apparmor_restrict_unprivileged_userns", "0");
  Set("kernel/io_uring_disabled", "0");
  EXPECT_EQ(UserNamespaces(), "none");
  EXPECT_EQ(Rings(), "none");
}

TEST_F(SwitchesTest, EachIsToldWithItsValueAndWhatChangesIt) {
  Set("kernel/apparmor_restrict_unprivileged_userns", "1");
  EXPECT_EQ(UserNamespaces(),
            "kernel.apparmor_restrict_unprivileged_userns is 1: sysctl -w "
            "kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for brood that "
            "has \"userns,\"");
  Set("kernel/unprivileged_userns_clone", "0");
  EXPECT_EQ(UserNamespaces(),
            "kernel.unprivileged_userns_clone is 0: sysctl -w kernel.unprivileged_userns_clone=1");
  Set("user/max_user_namespaces", "0");
  EXPECT_EQ(UserNamespaces(),
            "user.max_user_namespaces is 0: sysctl -w user.max_user_namespaces=15000");
  for (const char* const value : {"1", "2"}) {
    Set("kernel/io_uring_disabled", value);
    EXPECT_EQ(Rings(), fmt::format("kernel.io_uring_disabled is {}: sysctl -w "
                                   "kernel.io_uring_disabled=0",
                                   value));
  }
}

}  // namespace
}  // namespace brood
