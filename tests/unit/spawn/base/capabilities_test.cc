// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/capabilities.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

TEST(CapabilityName, AgreesWithTheKernelHeaders) {
  EXPECT_EQ(CapabilityName(CAP_CHOWN), "CAP_CHOWN");
  EXPECT_EQ(CapabilityName(CAP_NET_ADMIN), "CAP_NET_ADMIN");
  EXPECT_EQ(CapabilityName(CAP_SYS_MODULE), "CAP_SYS_MODULE");
  EXPECT_EQ(CapabilityName(CAP_SYS_ADMIN), "CAP_SYS_ADMIN");
  EXPECT_EQ(CapabilityName(CAP_SETFCAP), "CAP_SETFCAP");
  EXPECT_EQ(CapabilityName(CAP_SYSLOG), "CAP_SYSLOG");
  EXPECT_EQ(CapabilityName(CAP_AUDIT_READ), "CAP_AUDIT_READ");
  EXPECT_EQ(CapabilityName(CAP_BPF), "CAP_BPF");
  EXPECT_EQ(CapabilityName(CAP_CHECKPOINT_RESTORE), "CAP_CHECKPOINT_RESTORE");
}

TEST(CapabilityName, IsEmptyOutOfRange) {
  EXPECT_EQ(CapabilityName(-1), "");
  EXPECT_EQ(CapabilityName(41), "");
  EXPECT_EQ(CapabilityName(1 << 30), "");
}

TEST(CapabilityFromName, InvertsCapabilityName) {
  std::set<std::string_view> names;
  for (int capability = 0; capability <= CAP_CHECKPOINT_RESTORE; ++capability) {
    const std::string_view name = CapabilityName(capability);
    EXPECT_TRUE(name.starts_with("CAP_")) << capability;
    EXPECT_TRUE(names.insert(name).second) << name << " twice";
    const auto number = CapabilityFromName(name);
    ASSERT_TRUE(number.ok()) << Message(number.status());
    EXPECT_EQ(*number, capability);
  }
}

TEST(CapabilityFromName, TakesEverySpelling) {
  for (const char* name :
       {"NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_net_admin", "Cap_Net_Admin"}) {
    const auto number = CapabilityFromName(name);
    ASSERT_TRUE(number.ok()) << name << ": " << Message(number.status());
    EXPECT_EQ(*number, CAP_NET_ADMIN) << name;
  }
}

TEST(CapabilityFromName, SuggestsTheNearestName) {
  struct Case {
    std::string name;
    std::string_view suggestion;
  };
  const std::vector<Case> cases = {
      {"NET_ADMN", "did you mean CAP_NET_ADMIN?"},
      {"cap_sys_ptrce", "did you mean CAP_SYS_PTRACE?"},
      {"SYS_LOG", "did you mean CAP_SYSLOG?"},
      {"", "capabilities(7) lists them"},
      {"CAP_", "capabilities(7) lists them"},
      {"everything there is", "capabilities(7) lists them"},
      {"ALL", "there is no capability \"ALL\""},
      {"NET_ADMIN ", "did you mean CAP_NET_ADMIN?"},
      {std::string(100'000, 'X'), "capabilities(7) lists them"},
  };
  for (const Case& c : cases) {
    const auto number = CapabilityFromName(c.name);
    ASSERT_FALSE(number.ok()) << c.name.substr(0, 40);
    EXPECT_EQ(number.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(Message(number.status()).find(c.suggestion), std::string_view::npos)
        << Message(number.status()).substr(0, 200);
  }
}

TEST(LastCapability, IsWhatTheKernelSays) {
  std::ifstream file("/proc/sys/kernel/cap_last_cap");
  int expected = 0;
  ASSERT_TRUE(file >> expected);
  EXPECT_EQ(LastCapability(), expected);
}

TEST(LastCapability, AnswersEveryThreadAlike) {
  std::vector<int> answers(4, -1);
  {
    std::vector<std::jthread> threads;
    threads.reserve(answers.size());
    for (int& answer : answers) threads.emplace_back([&answer] { answer = LastCapability(); });
  }
  EXPECT_EQ(answers, std::vector<int>(4, LastCapability()));
}

TEST(CapabilityMask, SetsOneBitAName) {
  const auto mask = CapabilityMask({"CHOWN", "CAP_NET_ADMIN", "net_admin"});
  ASSERT_TRUE(mask.ok()) << Message(mask.status());
  EXPECT_EQ(*mask, 1ULL << CAP_CHOWN | 1ULL << CAP_NET_ADMIN);
  EXPECT_EQ(*CapabilityMask({}), 0U);
}

TEST(CapabilityMask, AllIsEveryCapabilityOfTheKernel) {
  for (const char* all : {"ALL", "all"}) {
    const auto mask = CapabilityMask({"CHOWN", all});
    ASSERT_TRUE(mask.ok()) << Message(mask.status());
    EXPECT_EQ(*mask, (2ULL << LastCapability()) - 1);
  }
}

TEST(CapabilityMask, RefusesWhatItDoesNotKnow) {
  const auto mask = CapabilityMask({"ALL", "NET_ADMN"});
  ASSERT_FALSE(mask.ok());
  EXPECT_EQ(mask.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace brood
