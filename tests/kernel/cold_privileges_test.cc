// SPDX-License-Identifier: Apache-2.0

// Ids, capabilities and limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>

#include <cstring>
#include <string>

#include "tests/kernel/cold.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

TEST_F(ColdTest, UserAndGroupAreAsAsked) {
  struct Case {
    std::uint32_t uid;
    std::uint32_t gid;
  };
  for (const Case& test :
       {Case{0, 0}, Case{1000, 1001}, Case{0, 5}, Case{5, 0}, Case{65535, 65535}}) {
    Spec spec;
    spec.uid = test.uid;
    spec.gid = test.gid;
    EXPECT_EQ(Output(spec, "id -u; id -g; id -G"),
              fmt::format("{}\n{}\n{}\n", test.uid, test.gid, test.gid));
    spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
    EXPECT_EQ(Output(spec, "id -u; id -g; id -G"),
              fmt::format("{}\n{}\n{}\n", test.uid, test.gid, test.gid))
        << "of the host";
  }
}

TEST_F(ColdTest, HostIdsAreItsRanges) {
  EXPECT_EQ(Output({}, "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map"),
            fmt::format(" 0 {0} 65536\n 0 {0} 65536\n", id_first_));
}

TEST_F(ColdTest, KeepsTheCapabilitiesAskedFor) {
  const std::uint64_t mask = 1ULL << CAP_NET_RAW | 1ULL << CAP_CHOWN;
  for (const NamespaceMode users : {NamespaceMode::kNew, NamespaceMode::kHost}) {
    for (const std::uint32_t uid : {0U, 1000U}) {
      Spec spec;
      spec.ns(NamespaceKind::kUser).mode = users;
      spec.uid = spec.gid = uid;
      spec.capabilities = {"NET_RAW", "cap_chown"};
      const std::string status = Output(spec, Words({"cat", "/proc/self/status"}));
      for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
        EXPECT_THAT(status, HasSubstr(fmt::format("{}:\t{:016x}\n", set, mask)))
            << "uid " << uid << (users == NamespaceMode::kNew ? " inside" : " of the host");
      }
      EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1\n"));
    }
  }
}

TEST_F(ColdTest, RlimitsAreSet) {
  Spec spec;
  spec.rlimits = {{RLIMIT_NOFILE, 77, 99}, {RLIMIT_CORE, 0, 0}};
  EXPECT_EQ(Output(spec, "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc"), "77\n99\n0\n0\n");
  rlimit ours{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &ours), 0);
  EXPECT_NE(ours.rlim_cur, 77U);
}

}  // namespace
}  // namespace brood
