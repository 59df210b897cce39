// SPDX-License-Identifier: Apache-2.0

// `brood run`, `burst` and `doctor` for an ordinary user, and inside containers: what works, and
// what is said of what does not.
#include "tests/ordinary_user.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

#include "spawn/host/subordinate_ids.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class OrdinaryUserTest : public LeavesNothing {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
    LeavesNothing::SetUp();
    fs::create_directories(directory_);
    fs::permissions(directory_, fs::perms::all);
  }
  void TearDown() override {
    if (geteuid() != 0) return;
    fs::remove_all(directory_);
    LeavesNothing::TearDown();
  }

  struct Result {
    int status;
    std::string out;
    std::string err;

    // Of what --json has written to stderr.
    nlohmann::json outcome() const { return nlohmann::json::parse(err, nullptr, false); }
    // What was used instead of something that was wanted; empty when that was had.
    std::string Instead(std::string_view wanted) const {
      const auto json = outcome();
      if (!json.is_object()) return "no outcome: " + err;
      for (const auto& each : json["fallbacks"]) {
        if (each["wanted"].get<std::string>().find(wanted) == std::string::npos) continue;
        return each["used"].get<std::string>() + " " + each["error"].get<std::string>();
      }
      return {};
    }
  };
  static Result Run(const Words& words, const std::function<void()>& become) {
    Brood brood(words, become);
    const int status = brood.Wait();
    return {status, brood.out(), brood.err()};
  }
  void BecomeOrdinaryWithRange() const {
    GiveSubordinateIds(directory_);
    BecomeOrdinary();
  }
  static bool HaveRangeHelpers() {
    return access("/usr/bin/newuidmap", X_OK) == 0 && access("/usr/bin/newgidmap", X_OK) == 0;
  }

  const fs::path directory_ =
      fs::path(::testing::TempDir()) / fmt::format("brood_ordinary_{}", getpid());
};

// How it is isolated, seen from inside.
constexpr std::string_view kLookRound =
    "id -u; id -g; echo $$; hostname; touch /tmp/mine && echo tmp; touch /usr/x 2>/dev/null || "
    "echo "
    "read-only; wc -l < /proc/net/dev; grep -c Seccomp:.2 /proc/self/status; grep CapBnd "
    "/proc/self/status | tr -d '0\\t'; echo x > /dev/null && echo dev";
constexpr std::string_view kSeen = "0\n0\n1\nbrood\ntmp\nread-only\n3\n1\nCapBnd:\ndev\n";

TEST_F(OrdinaryUserTest, RunsFullyIsolatedWithOneId) {
  const Result result = Run(Words{"run", "--json"} + Shell(kLookRound), BecomeOrdinary);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, kSeen);
  EXPECT_THAT(result.Instead("range of host ids"), HasSubstr("one id, that of nobody"));
  EXPECT_THAT(result.Instead("cgroup of its own"), HasSubstr("launcher's cgroup"));
}

TEST_F(OrdinaryUserTest, TheMissingRangeIsNamed) {
  const Result result = Run({"run", "--json", "--", "true"}, BecomeOrdinary);
  EXPECT_EQ(result.status, 0) << result.err;
  if (HaveRangeHelpers()) {
    EXPECT_THAT(result.Instead("range of host ids"),
                HasSubstr("/etc/subuid has no range of 65536 ids for nobody"));
  } else {
    EXPECT_THAT(result.Instead("range of host ids"), HasSubstr("apt install uidmap"));
  }
  // Whoever has it could not use it like this.
  const Result bound = Run({"run", "--json", "--", "true"}, [&] {
    GiveSubordinateIds(directory_);
    BecomeOrdinary();
    MustDo(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  });
  EXPECT_EQ(bound.status, 0) << bound.err;
  EXPECT_THAT(bound.Instead("range of host ids"), HasSubstr("no_new_privs"));
}

TEST_F(OrdinaryUserTest, RunsFullyIsolatedWithARange) {
  if (!HaveRangeHelpers()) GTEST_SKIP() << "needs newuidmap and newgidmap (uidmap)";
  const Result result =
      Run(Words{"run", "--json"} + Shell(kLookRound), [&] { BecomeOrdinaryWithRange(); });
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, kSeen);
  EXPECT_THAT(result.Instead("range of host ids"),
              HasSubstr("one range for all workers of nobody"));
}

TEST_F(OrdinaryUserTest, RangeHasOtherUsersInside) {
  if (!HaveRangeHelpers()) GTEST_SKIP() << "needs newuidmap and newgidmap (uidmap)";
  const Result result =
      Run(Words{"run", "-u", "33:34"} + Shell("id -u; id -g; cat /proc/self/uid_map"),
          [&] { BecomeOrdinaryWithRange(); });
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, ::testing::StartsWith("33\n34\n"));
  EXPECT_THAT(result.out, HasSubstr(std::to_string(kOrdinaryRange)));
}

TEST_F(OrdinaryUserTest, OnlyARangeKeepsTheUsersFilesFromWorkers) {
  const fs::path secret = directory_ / "secret";
  std::ofstream(secret) << "mine";
  ASSERT_EQ(chown(secret.c_str(), kOrdinaryUser, kOrdinaryUser), 0);
  ASSERT_EQ(chmod(secret.c_str(), 0600), 0);
  const Words read = {"run", "-v", secret.string() + ":/run/secret", "--", "cat", "/run/secret"};
  const Result alone = Run(read, BecomeOrdinary);
  EXPECT_EQ(alone.out, "mine") << "the note says that a worker with one id can: " << alone.err;
  if (!HaveRangeHelpers()) GTEST_SKIP() << "needs newuidmap and newgidmap (uidmap)";
  const Result ranged = Run(read, [&] { BecomeOrdinaryWithRange(); });
  EXPECT_NE(ranged.status, 0);
  EXPECT_EQ(ranged.out, "");
  // By name it can be had: files keep their owners' numbers.
  const std::string own = std::to_string(kOrdinaryUser);
  const Result named =
      Run(Words{"run", "-u", own + ":" + own} + Words(read.begin() + 1, read.end()),
          [&] { BecomeOrdinaryWithRange(); });
  EXPECT_EQ(named.out, "mine") << named.err;
}

TEST_F(OrdinaryUserTest, LimitsWithoutACgroupAreAnError) {
  const Result result = Run({"run", "--pids", "10", "--", "true"}, BecomeOrdinary);
  EXPECT_EQ(result.status, 125);
  EXPECT_THAT(result.err, HasSubstr("cgroup"));
}

// --- pools --------------------------------------------------------------------------------------

struct Place {
  const char* name;
  bool range;
  int ring_refusal;
};

class OrdinaryPoolTest : public OrdinaryUserTest, public ::testing::WithParamInterface<Place> {};

TEST_P(OrdinaryPoolTest, BurstsFromEveryPath) {
  const Place& place = GetParam();
  BROOD_NEEDS_WAY(Way::kUring);
  if (place.range && !HaveRangeHelpers()) GTEST_SKIP() << "needs newuidmap and newgidmap (uidmap)";
  for (const char* path : {"parked", "zygote", "cold"}) {
    SCOPED_TRACE(path);
    const std::string file = (directory_ / "report").string();
    const Result result = Run(
        {"burst", "-n", "20", "--path", path, "--no-floor", "--json=" + file, "--", "/bin/true"},
        [&] {
          if (place.range) GiveSubordinateIds(directory_);
          BecomeOrdinary();
          // Before a filter, since no_new_privs keeps newuidmap from its rights.
          if (place.ring_refusal != 0 && !place.range) RefuseIoUring(place.ring_refusal);
        });
    EXPECT_EQ(result.status, 0) << result.out << result.err;
    const auto report = nlohmann::json::parse(ReadText(file), nullptr, false);
    ASSERT_TRUE(report.is_object()) << result.err;
    EXPECT_EQ(report["path"][path], 20) << report.dump(2);
    for (const auto& left : report["left_behind"]) EXPECT_EQ(left, 0) << report.dump(2);
    const std::string fallbacks = report["fallbacks"].dump();
    EXPECT_THAT(fallbacks, HasSubstr(place.range ? "one range for all" : "one id, that of"));
    if (place.ring_refusal != 0) {
      EXPECT_THAT(fallbacks, HasSubstr(fmt::format("\"errno\":{}", place.ring_refusal)));
      EXPECT_THAT(fallbacks, HasSubstr("epoll"));
    } else {
      EXPECT_THAT(fallbacks, Not(HasSubstr("epoll")));
    }
    fs::remove(file);
  }
}

INSTANTIATE_TEST_SUITE_P(Places, OrdinaryPoolTest,
                         ::testing::Values(Place{"OneId", false, 0}, Place{"Range", true, 0},
                                           Place{"UringForbidden", false, EPERM},
                                           Place{"UringMissing", false, ENOSYS}),
                         [](const auto& test) { return test.param.name; });

// --- cgroups ------------------------------------------------------------------------------------

TEST_F(OrdinaryUserTest, DelegatedCgroupIsUsed) {
  const DelegatedCgroup cgroup;
  if (!cgroup.there()) GTEST_SKIP() << "needs a cgroup2 mount";
  const auto become = [&] {
    cgroup.Enter();
    BecomeOrdinary();
  };
  const Result result = Run({"run", "--json", "--", "true"}, become);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.Instead("cgroup of its own"), "");

  const std::string file = (directory_ / "report").string();
  const Result burst =
      Run({"burst", "-n", "10", "--no-floor", "--json=" + file, "--", "/bin/true"}, become);
  EXPECT_EQ(burst.status, 0) << burst.out << burst.err;
  EXPECT_THAT(ReadText(file), Not(HasSubstr("a cgroup of its own")));

  const Result limited = Run({"run", "--pids", "4", "--json", "--", "true"}, become);
  if (cgroup.Has("pids")) {
    EXPECT_EQ(limited.status, 0) << limited.err;
  } else {
    EXPECT_EQ(limited.status, 125);
    EXPECT_THAT(limited.err, HasSubstr("limiting pids"));
  }
}

// --- containers ---------------------------------------------------------------------------------

TEST_F(OrdinaryUserTest, RootOfAUserNamespaceRunsAndBursts) {
  const auto become = [] {
    BecomeOrdinary();
    BecomeRootInside();
  };
  const Result run = Run(Words{"run", "--json"} + Shell("id -u; hostname"), become);
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "0\nbrood\n");
  EXPECT_THAT(run.Instead("range of host ids"), HasSubstr("one id"));
  const Result burst = Run({"burst", "-n", "10", "--no-floor", "--", "/bin/true"}, become);
  EXPECT_EQ(burst.status, 0) << burst.out << burst.err;
}

TEST_F(OrdinaryUserTest, DockersFilterIsNamed) {
  const Result result = Run({"run", "--", "true"}, [] {
    BecomeOrdinary();
    EnterDockersFilter();
  });
  EXPECT_EQ(result.status, 125);
  EXPECT_THAT(result.err, HasSubstr("seccomp=unconfined"));
}

TEST_F(OrdinaryUserTest, CoveredProcIsToldAndCanBeKept) {
  const auto become = [] {
    OwnMounts();
    Cover("/proc/keys", "/dev/null");
    BecomeOrdinary();
  };
  for (const char* command : {"run", "burst"}) {
    SCOPED_TRACE(command);
    Words words = {command};
    if (words[0] == "burst") words = {"burst", "-n", "2", "--path", "zygote", "--no-floor"};
    const Result result = Run(words + Words{"--", "/bin/true"}, become);
    EXPECT_NE(result.status, 0);
    EXPECT_THAT(result.out + result.err, HasSubstr("EPERM"));
    EXPECT_THAT(result.out + result.err, HasSubstr("systempaths=unconfined"));
    const Result kept = Run(words + Words{"--no-pid", "--", "/bin/true"}, become);
    EXPECT_EQ(kept.status, 0) << kept.out << kept.err;
  }
}

TEST_F(OrdinaryUserTest, ForbiddenUserNamespacesAreToldByTheSwitch) {
  // A count of its own, in a namespace of its own: the machine's stays.
  const Result result = Run({"run", "--", "true"}, [] {
    BecomeOrdinary();
    BecomeRootInside();
    std::ofstream("/proc/sys/user/max_user_namespaces") << 0;
  });
  EXPECT_EQ(result.status, 125);
  EXPECT_THAT(result.err, HasSubstr("user.max_user_namespaces is 0"));
}

TEST_F(OrdinaryUserTest, DoctorTellsWhatRootWouldAdd) {
  const auto ids = [](const Result& result) {
    for (const auto& finding : nlohmann::json::parse(result.out, nullptr, false)) {
      if (finding.is_object() && finding.value("subject", "") == "ids") return finding.dump();
    }
    return "no finding: " + result.out + result.err;
  };
  EXPECT_THAT(ids(Run({"doctor", "--json"}, BecomeOrdinary)), HasSubstr("one id, that of nobody"));
  EXPECT_THAT(ids(Run({"doctor", "--json"}, [] {})), HasSubstr("65,536 host ids of its own"));
  if (!HaveRangeHelpers()) GTEST_SKIP() << "needs newuidmap and newgidmap (uidmap)";
  EXPECT_THAT(ids(Run({"doctor", "--json"}, [&] { BecomeOrdinaryWithRange(); })),
              HasSubstr("/etc/subuid gives to nobody"));
}

}  // namespace
}  // namespace brood
