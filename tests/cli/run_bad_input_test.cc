// SPDX-License-Identifier: Apache-2.0

// What brood run refuses, in one sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/host/cgroup_host.h"
#include "tests/cli/run_test.h"
#include "tests/program.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct BadCase {
  std::string name;
  Words arguments;  // after "run"; without a command, `-- true` follows
  std::string sentence;
};

class BadInputTest : public RunTest {
 protected:
  static void ExpectRefused(const Words& arguments, const std::string& sentence) {
    Brood brood(arguments);
    EXPECT_EQ(brood.Wait(), 125);
    EXPECT_EQ(brood.out(), "");
    const std::string err = brood.err();
    EXPECT_THAT(err, StartsWith("brood: "));
    EXPECT_THAT(err, HasSubstr(sentence));
    EXPECT_THAT(err, EndsWith("\n"));
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << "one sentence: " << err;
    EXPECT_LT(err.size(), 1000U);
  }
};

TEST_F(BadInputTest, IsRefusedInOneSentence) {
  const std::string here = directory_;
  const std::string file = directory_ / "file";
  std::ofstream(file) << "{";
  fs::create_directories(directory_ / "bare");
  const std::vector<BadCase> cases = {
      {"unknown user", {"-u", "no-such-user-here"}, "there is no user \"no-such-user-here\""},
      {"unknown group", {"-u", "0:no-such-group"}, "there is no group \"no-such-group\""},
      {"empty user", {"-u", ":"}, "give a number"},
      {"negative user", {"--user=-1"}, "give a number"},
      {"user beyond 32 bits", {"-u", "4294967296"}, "give a number"},
      {"user that means unchanged", {"-u", "4294967295"}, "4294967295 is not an id"},

      {"relative root that is not there", {"--rootfs", "no/such/root"}, "the root directory"},
      {"missing root", {"--rootfs", here + "/none"}, here + "/none: ENOENT"},
      {"root is a file", {"--rootfs", file}, "ENOTDIR"},
      {"root without /proc", {"--rootfs", here + "/bare"}, "has no directory /proc"},
      {"unknown mode", {"--rootfs", here, "--root-mode", "rx"}, "not \"rx\""},
      {"mode without a root", {"--root-mode", "rw"}, "needs --rootfs"},
      {"overlay size of nothing", {"--overlay-size", "0"}, "at least one byte"},

      {"bind without a target", {"-v", "/etc"}, "is not a bind"},
      {"bind with an empty target", {"-v", "/etc:"}, ""},
      {"bind of nothing", {"-v", ":/etc"}, "is not a bind"},
      {"bind from a missing path", {"-v", here + "/none:/mnt"}, here + "/none: ENOENT"},
      {"bind onto a missing path", {"-v", here + ":/none/at/all"}, "/none/at/all"},
      {"bind to a relative path", {"-v", here + ":mnt"}, "must be an absolute path"},
      {"bind that climbs", {"-v", here + ":/mnt/../etc"}, "may not contain \"..\""},
      {"bind with an unknown mode", {"-v", here + ":/mnt:exec"}, "only ro and rw"},
      {"bind on the root", {"-v", here + ":/"}, "cannot replace the root"},
      {"bind on /proc", {"-v", here + ":/proc/sys"}, "/proc is the worker's own"},
      {"bind of a directory on a file", {"-v", here + ":/etc/passwd"}, "it is not a directory"},
      {"tmpfs on a missing path", {"--tmpfs", "/none"}, "/none"},
      {"tmpfs without a target", {"--tmpfs", ":1M"}, ""},
      {"tmpfs without a size", {"--tmpfs", "/mnt:"}, "is not a size"},

      {"size that overflows", {"--tmp-size", "99999999999999999999G"}, "beyond"},
      {"size beyond a double", {"--tmp-size", std::string(400, '9')}, "is not a size"},
      {"negative size", {"--tmp-size=-1M"}, "at least one byte"},
      {"size that is no number", {"--tmp-size", "nan"}, "is not a size"},
      {"memory of nothing", {"--memory", "0"}, "at least one byte"},
      {"duration that overflows", {"--timeout", "999999999999h"}, "over a century"},
      {"endless duration", {"--timeout", "inf"}, "is not a duration"},
      {"no time", {"--timeout", "0"}, "longer than zero"},
      {"negative time", {"--timeout=-5s"}, "longer than zero"},
      {"fractional pids", {"--pids", "1.5"}, "--pids must be a whole number"},
      {"no pids", {"--pids", "0"}, "--pids must be a whole number"},
      {"pids that overflow", {"--pids", "18446744073709551617"}, "--pids must be a whole number"},
      {"no cpus", {"--cpus", "0"}, "is not a number of cpus"},
      {"hexadecimal cpus", {"--cpus", "0x1"}, "is not a number of cpus"},
      {"unknown rlimit", {"--rlimit", "FILES=5"}, "is not a resource limit"},
      {"rlimit without a value", {"--rlimit", "NOFILE"}, "is not a resource limit"},
      {"soft above hard", {"--rlimit", "NOFILE=6:5"}, "above the hard limit"},

      {"unknown capability", {"--cap-add", "NET_ADMN"}, "did you mean CAP_NET_ADMIN?"},
      {"missing profile", {"--seccomp", here + "/none"}, "the seccomp profile"},
      {"broken profile", {"--seccomp", file}, file},
      {"profile is a directory", {"--seccomp", here}, here},
      {"unknown network", {"--net", "bridge"}, "not \"bridge\""},
      {"long hostname", {"--hostname", std::string(65, 'h')}, "the kernel takes 64"},
      {"relative directory", {"-w", "tmp"}, "must be an absolute path"},
      {"variable that is not set", {"-e", "BROOD_NO_SUCH_VARIABLE"}, "no such variable"},
      {"variable without a name", {"-e", "=x"}, "must be NAME=value"},
      {"missing namespace",
       {"--no-user", "--join-net", here + "/none"},
       here + "/none to join: ENOENT"},
      {"no namespace", {"--no-user", "--join-net", file}, "is not a net namespace"},
      {"another namespace",
       {"--no-user", "--join-net", "/proc/self/ns/uts"},
       "is not a net namespace"},

      {"new and joined", {"--no-uts", "--join-uts", "/proc/self/ns/uts"}, "exclude each other"},
      {"host's and joined net",
       {"--net", "host", "--join-net", "/proc/self/ns/net"},
       "exclude each other"},
      {"limits without a cgroup", {"--pids", "5", "--no-cgroup-leaf"}, "need a cgroup"},
      {"tmpfs without mounts", {"--no-mount", "--tmpfs", "/mnt"}, "need a mount namespace"},
      {"offset of the host's clock",
       {"--no-time", "--monotonic-offset", "5s"},
       "need a new time namespace"},
      {"offset that is no time", {"--boottime-offset=soon"}, "\"soon\" is not a duration"},
      {"offset of nothing", {"--boottime-offset=0"}, "longer than zero"},

      {"empty command", {"--", ""}, "no command was given"},
      {"no command", {"--"}, ""},
      {"unknown option", {"--frobnicate"}, "--frobnicate"},
      {"option without a value", {"--timeout"}, "--timeout"},
      {"option given twice", {"--timeout", "5s", "--timeout", "6s"}, "--timeout"},
  };
  for (const BadCase& test : cases) {
    SCOPED_TRACE(test.name);
    Words arguments = Words{"run"} + test.arguments;
    const bool complete = std::find(arguments.begin(), arguments.end(), "--") != arguments.end() ||
                          test.arguments.back() == "--timeout";
    if (!complete) arguments = arguments + Words{"--", "true"};
    ExpectRefused(arguments, test.sentence);
  }
}

TEST_F(BadInputTest, NoCommandOfBroodsOwn) {
  ExpectRefused({"frobnicate"}, "frobnicate");
  ExpectRefused({"run"}, "COMMAND");
}

TEST_F(BadInputTest, HugeArgumentsAndEnvironment) {
  const std::string big(131'000, 'a');
  ExpectRefused(Words{"run", "--", "true"} + Words(13, big), "arguments and environment together");
  Words variables = {"run"};
  for (int i = 0; i < 13; ++i) {
    variables.insert(variables.end(), {"-e", fmt::format("V{}={}", i, big.substr(0, 130'000))});
  }
  ExpectRefused(variables + Words{"--", "true"}, "arguments and environment together");
  Brood fits(Words{"run", "--", "true"} + Words(9, big));
  EXPECT_EQ(fits.Wait(), 0) << fits.err();
}

TEST_F(BadInputTest, LimitsThatTheHostCannotKeep) {
  const auto host = CgroupHost::Discover();
  ASSERT_TRUE(host.ok()) << host.status();
  struct Case {
    std::string_view controller;
    Words arguments;
  };
  const Case cases[] = {
      {"memory", {"--memory", "64M"}}, {"pids", {"--pids", "9"}}, {"cpu", {"--cpus", "0.5"}}};
  for (const Case& test : cases) {
    if (host->Has(test.controller)) continue;
    ExpectRefused(Words{"run"} + test.arguments + Words{"--", "true"}, "");
  }
}

}  // namespace
}  // namespace brood
