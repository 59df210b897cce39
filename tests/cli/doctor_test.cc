// SPDX-License-Identifier: Apache-2.0

// brood doctor, in the places that it is to tell apart.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class DoctorTest : public LeavesNothing {
 protected:
  struct Result {
    int status;
    nlohmann::json findings;
    std::string err;

    const nlohmann::json& Of(const std::string& subject) const {
      static const nlohmann::json none = {{"verdict", "absent"}, {"what", ""}, {"remedy", ""}};
      for (const auto& finding : findings) {
        if (finding["subject"] == subject) return finding;
      }
      return none;
    }
    std::string What(const std::string& subject) const { return Of(subject)["what"]; }
    std::string VerdictOf(const std::string& subject) const { return Of(subject)["verdict"]; }
  };
  static Result Ask(
      const Words& options, const std::function<void()>& before_exec = [] {}) {
    Brood brood(Words{"doctor", "--json"} + options, before_exec);
    const int status = brood.Wait();
    return {status, nlohmann::json::parse(brood.out(), nullptr, false), brood.err()};
  }
  // In a user namespace of its own, with its own id as root's there.
  static void BecomeRootInside() {
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER) != 0) _exit(98);
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/gid_map") << "0 " << gid << " 1";
    std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1";
  }
  static void BecomeNobody() {
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(98);
  }
};

TEST_F(DoctorTest, RootHasEverything) {
  BROOD_NEEDS_ROOT();
  for (const WayName& each : AllWays()) BROOD_NEEDS_WAY(each.way);
  const Result result = Ask({});
  EXPECT_EQ(result.status, 0) << result.findings.dump(2);
  for (const char* const subject : {"user namespaces", "namespaces", "/proc", "io_uring", "seccomp",
                                    "a trial run", "room for 1000 workers"}) {
    EXPECT_EQ(result.VerdictOf(subject), "fine") << result.What(subject);
  }
}

TEST_F(DoctorTest, MoreThanFitIsToldByTheLimit) {
  BROOD_NEEDS_ROOT();
  const Result result = Ask({"--for", "1000000"});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.VerdictOf("ranges of host ids"), "less");
  EXPECT_THAT(result.What("ranges of host ids"), HasSubstr("is 32768; 1000000 workers need"));
  EXPECT_EQ(result.VerdictOf("available memory"), "less");
  EXPECT_EQ(result.VerdictOf("room for 1000000 workers"), "absent");
}

TEST_F(DoctorTest, OrdinaryUserHasUserNamespaces) {
  BROOD_NEEDS_ROOT();
  const Result result = Ask({}, BecomeNobody);
  EXPECT_EQ(result.VerdictOf("user namespaces"), "fine") << result.What("user namespaces");
  EXPECT_EQ(result.VerdictOf("namespaces"), "fine") << result.What("namespaces");
  EXPECT_EQ(result.VerdictOf("cgroups"), "less");
  EXPECT_THAT(result.Of("cgroups").dump(), HasSubstr("Delegate=yes"));
  EXPECT_NE(result.status, 0);
}

TEST_F(DoctorTest, RootOfAUserNamespaceMayMakeTheOthers) {
  const Result result = Ask({}, BecomeRootInside);
  EXPECT_EQ(result.VerdictOf("namespaces"), "fine") << result.What("namespaces");
  EXPECT_EQ(result.VerdictOf("user namespaces"), "fine") << result.What("user namespaces");
  EXPECT_NE(result.VerdictOf("a trial run"), "absent");
}

TEST_F(DoctorTest, NoUserNamespacesAreTold) {
  BROOD_NEEDS_ROOT();
  // A limit of its own, in a namespace of its own: the machine's stays.
  const Result result = Ask({}, [] {
    BecomeRootInside();
    std::ofstream("/proc/sys/user/max_user_namespaces") << 0;
  });
  EXPECT_NE(result.VerdictOf("user namespaces"), "fine");
  EXPECT_THAT(result.What("user namespaces"), HasSubstr("ENOSPC"));
  EXPECT_THAT(result.Of("user namespaces").dump(), HasSubstr("user.max_user_namespaces"));
  EXPECT_NE(result.status, 0);
}

TEST_F(DoctorTest, NoNamespacesOfOneKindAreTold) {
  BROOD_NEEDS_ROOT();
  const Result result = Ask({"--for", "50"}, [] {
    BecomeRootInside();
    std::ofstream("/proc/sys/user/max_net_namespaces") << 0;
  });
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.What("namespaces"), HasSubstr("net (ENOSPC"));
  EXPECT_THAT(result.What("user.max_net_namespaces"), HasSubstr("is 0; 50 workers need 66"));
}

TEST_F(DoctorTest, CoveredProcIsTold) {
  BROOD_NEEDS_ROOT();
  // As a container engine covers it, seen from a user namespace, which may not uncover it.
  const Result result = Ask({}, [] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("/dev/null", "/proc/keys", nullptr, MS_BIND, nullptr) != 0) {
      _exit(98);
    }
    BecomeNobody();
  });
  EXPECT_EQ(result.VerdictOf("/proc"), "cannot");
  EXPECT_THAT(result.What("/proc"), HasSubstr("EPERM"));
  EXPECT_EQ(result.status, 2);
}

TEST_F(DoctorTest, InsideBubblewrapWithoutProc) {
  if (access("/usr/bin/bwrap", X_OK) != 0) GTEST_SKIP() << "needs bubblewrap";
  const std::string program = BROOD_PROGRAM;
  const std::string out = ::testing::TempDir() + "/brood_doctor_" + std::to_string(getpid());
  const std::string command =
      "bwrap --unshare-user --unshare-pid --ro-bind / / --proc /proc --dev /dev " + program +
      " doctor --json > " + out + " 2>&1";
  const int status = std::system(command.c_str());
  const auto findings = nlohmann::json::parse(ReadText(out), nullptr, false);
  std::filesystem::remove(out);
  ASSERT_TRUE(findings.is_array()) << ReadText(out);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_NE(WEXITSTATUS(status), 0) << "there is no cgroup that it may build in";
}

TEST_F(DoctorTest, ForPeopleItNamesTheRemedy) {
  BROOD_NEEDS_ROOT();
  Brood brood({"doctor", "--for", "1000000"});
  EXPECT_EQ(brood.Wait(), 1);
  EXPECT_THAT(brood.out(), HasSubstr("less    ranges of host ids: is 32768"));
}

}  // namespace
}  // namespace brood
