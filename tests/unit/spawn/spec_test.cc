// SPDX-License-Identifier: Apache-2.0

// What Validate refuses before the kernel is asked, and how it says so.
#include "spawn/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint64_t kBeyondReason = (1ULL << 60) + 1;

const std::string& WithNul() {
  static const std::string text("/a\0b", 4);
  return text;
}

std::string PathOf(std::size_t bytes) { return "/" + std::string(bytes - 1, 'p'); }

// --- Spec ---------------------------------------------------------------------------------------

struct SpecCase {
  std::string_view name;
  std::function<void(Spec&)> change;
  std::string_view sentence;  // a piece of it; empty: the spec is valid
};
void PrintTo(const SpecCase& test, std::ostream* out) { *out << test.name; }

class ValidateSpecTest : public ::testing::TestWithParam<SpecCase> {};

TEST_P(ValidateSpecTest, Decides) {
  Spec spec;
  GetParam().change(spec);
  const absl::Status status = Validate(spec);
  if (GetParam().sentence.empty()) {
    EXPECT_TRUE(status.ok()) << Message(status);
    return;
  }
  ASSERT_FALSE(status.ok()) << "it was taken";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(status)), HasSubstr(std::string(GetParam().sentence)));
}

void Rooted(Spec& spec, RootMode mode = RootMode::kReadOnly) {
  spec.root.mode = mode;
  spec.root.directory = "/srv/root";
}

INSTANTIATE_TEST_SUITE_P(
    Valid, ValidateSpecTest,
    ::testing::Values(
        SpecCase{"Default", [](Spec&) {}, ""}, SpecCase{"Root", [](Spec& s) { Rooted(s); }, ""},
        SpecCase{"Overlay", [](Spec& s) { Rooted(s, RootMode::kOverlay); }, ""},
        SpecCase{"DotsInAName",
                 [](Spec& s) {
                   s.binds = {{"/a..b", "/..c", false}};
                 },
                 ""},
        SpecCase{"LongestPath",
                 [](Spec& s) {
                   s.binds = {{PathOf(4095), "/b", false}};
                 },
                 ""},
        SpecCase{"LongestHostname", [](Spec& s) { s.hostname = std::string(64, 'h'); }, ""},
        SpecCase{"NoHostname", [](Spec& s) { s.hostname.clear(); }, ""},
        SpecCase{"HighestId", [](Spec& s) { s.uid = s.gid = UINT32_MAX - 1; }, ""},
        SpecCase{"EveryCapability", [](Spec& s) { s.capabilities = {"ALL"}; }, ""},
        SpecCase{"PathOfANamespaceThatIsNotJoined",
                 [](Spec& s) { s.ns(NamespaceKind::kNet).path = "nonsense"; }, ""},
        SpecCase{"NoMountNamespace",
                 [](Spec& s) { s.ns(NamespaceKind::kMount).mode = NamespaceMode::kHost; }, ""},
        SpecCase{"Offsets", [](Spec& s) { s.time_offsets.monotonic = seconds(-5); }, ""},
        SpecCase{"SmallestLimits",
                 [](Spec& s) { s.limits = {.memory_bytes = 1, .pids = 1, .cpus = 0.01}; }, ""},
        SpecCase{"EqualRlimits",
                 [](Spec& s) {
                   s.rlimits = {{RLIMIT_CORE, 0, 0}};
                 },
                 ""}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Paths, ValidateSpecTest,
    ::testing::Values(
        SpecCase{"RelativeRoot", [](Spec& s) { Rooted(s), s.root.directory = "srv/root"; },
                 "the root directory must be an absolute path, not \"srv/root\""},
        SpecCase{"EmptyRoot", [](Spec& s) { Rooted(s), s.root.directory.clear(); },
                 "the root directory must be an absolute path, not \"\""},
        SpecCase{"RootWithNul", [](Spec& s) { Rooted(s), s.root.directory = WithNul(); },
                 "the root directory contains a NUL byte"},
        SpecCase{"ClimbingRoot", [](Spec& s) { Rooted(s), s.root.directory = "/srv/../etc"; },
                 "the root directory may not contain \"..\""},
        SpecCase{"HostTreeWithADirectory", [](Spec& s) { s.root.directory = "/srv/root"; },
                 "the host's own tree was asked for together with the root /srv/root"},
        SpecCase{"RelativeBindSource",
                 [](Spec& s) {
                   s.binds = {{"a", "/b", false}};
                 },
                 "a bind's source must be an absolute path, not \"a\""},
        SpecCase{"RelativeBindTarget",
                 [](Spec& s) {
                   s.binds = {{"/a", "b", false}};
                 },
                 "a bind's target must be an absolute path, not \"b\""},
        SpecCase{"EmptyBindTarget",
                 [](Spec& s) {
                   s.binds = {{"/a", "", false}};
                 },
                 "a bind's target must be an absolute path, not \"\""},
        SpecCase{"SecondBindIsChecked",
                 [](Spec& s) {
                   s.binds = {{"/a", "/b", false}, {"/a", "c", false}};
                 },
                 "\"c\""},
        SpecCase{"ClimbingBindTarget",
                 [](Spec& s) {
                   s.binds = {{"/a", "/b/..", false}};
                 },
                 "a bind's target may not contain \"..\": \"/b/..\""},
        SpecCase{"BindTargetWithNul",
                 [](Spec& s) {
                   s.binds = {{"/a", WithNul(), false}};
                 },
                 "a bind's target contains a NUL byte"},
        SpecCase{"TooLongBindTarget",
                 [](Spec& s) {
                   s.binds = {{"/a", PathOf(4096), false}};
                 },
                 "a bind's target is 4096 bytes long"},
        SpecCase{"BindOnTheRoot",
                 [](Spec& s) {
                   s.binds = {{"/a", "/", false}};
                 },
                 "a bind cannot replace the root"},
        SpecCase{"RelativeTmpfs", [](Spec& s) { s.tmpfs = {{.target = "t"}}; },
                 "a tmpfs target must be an absolute path, not \"t\""},
        SpecCase{"TmpfsOnTheRoot", [](Spec& s) { s.tmpfs = {{.target = "/"}}; },
                 "a tmpfs cannot replace the root"},
        SpecCase{"RelativeSeccompProfile",
                 [](Spec& s) {
                   s.seccomp = {SeccompMode::kFile, "profile.json"};
                 },
                 "the seccomp profile must be an absolute path"},
        SpecCase{"JoinWithoutAPath",
                 [](Spec& s) { s.ns(NamespaceKind::kNet).mode = NamespaceMode::kJoin; },
                 "the net namespace to join must be an absolute path, not \"\""},
        SpecCase{"JoinByARelativePath",
                 [](Spec& s) {
                   s.ns(NamespaceKind::kUts) = {NamespaceMode::kJoin, "netns/x"};
                 },
                 "the uts namespace to join must be an absolute path"}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Sizes, ValidateSpecTest,
    ::testing::Values(
        SpecCase{"NoTmp", [](Spec& s) { s.tmp_bytes = 0; }, "the size of /tmp must be above zero"},
        SpecCase{"HugeTmp", [](Spec& s) { s.tmp_bytes = kBeyondReason; },
                 "the size of /tmp of 1152921504606846977 bytes is too large"},
        SpecCase{"EmptyTmpfs", [](Spec& s) { s.tmpfs = {{.target = "/t", .bytes = 0}}; },
                 "the tmpfs on /t must be above zero"},
        SpecCase{"HugeTmpfs", [](Spec& s) { s.tmpfs = {{.target = "/t", .bytes = UINT64_MAX}}; },
                 "the tmpfs on /t of 18446744073709551615 bytes is too large"},
        SpecCase{"EmptyOverlay",
                 [](Spec& s) { Rooted(s, RootMode::kOverlay), s.root.overlay_bytes = 0; },
                 "the overlay's size must be above zero"},
        SpecCase{"NoMemory", [](Spec& s) { s.limits.memory_bytes = 0; },
                 "the memory limit must be above zero"},
        SpecCase{"HugeMemory", [](Spec& s) { s.limits.memory_bytes = kBeyondReason; },
                 "the memory limit of"},
        SpecCase{"NoMemoryHigh", [](Spec& s) { s.limits.memory_high_bytes = 0; },
                 "memory.high must be above zero"},
        SpecCase{"MemoryHighNeverMet",
                 [](Spec& s) { s.limits = {.memory_bytes = 4096, .memory_high_bytes = 4097}; },
                 "so it would never be met"},
        SpecCase{"PeriodOfNothing", [](Spec& s) { s.limits.cpu_period_us = 1000; },
                 "a cpu period needs a cpu limit"},
        SpecCase{"ShortPeriod", [](Spec& s) { s.limits = {.cpus = 1, .cpu_period_us = 999}; },
                 "outside the kernel's 1 ms to 1 s"},
        SpecCase{"NoCpuWeight", [](Spec& s) { s.limits.cpu_weight = 0; }, "the cpu weight 0"},
        SpecCase{"HugeIoWeight", [](Spec& s) { s.limits.io_weight = 10'001; },
                 "the io weight 10001"},
        SpecCase{"IoOfNothing", [](Spec& s) { s.limits.io = {{.major = 8}}; }, "limits nothing"},
        SpecCase{"IoStopped", [](Spec& s) { s.limits.io = {{.major = 8, .read_ops = 0}}; },
                 "would stop it for good"},
        SpecCase{"ManyDisks", [](Spec& s) { s.limits.io.resize(65, {.major = 8, .read_ops = 1}); },
                 "too many: at most 64"},
        SpecCase{"CpusInWords", [](Spec& s) { s.limits.cpuset_cpus = "all"; },
                 "not a list of numbers"},
        SpecCase{"NodesBackwards", [](Spec& s) { s.limits.cpuset_mems = "1-0"; },
                 "not a list of numbers"},
        SpecCase{"NoPids", [](Spec& s) { s.limits.pids = 0; }, "a pids limit of 0 leaves no room"},
        SpecCase{"NoCpus", [](Spec& s) { s.limits.cpus = 0; }, "a cpu limit of 0 is outside"},
        SpecCase{"NegativeCpus", [](Spec& s) { s.limits.cpus = -1; }, "a cpu limit of -1"},
        SpecCase{"TooManyCpus", [](Spec& s) { s.limits.cpus = 100001; }, "a cpu limit of 100001"},
        SpecCase{"NoNumberOfCpus",
                 [](Spec& s) { s.limits.cpus = std::numeric_limits<double>::quiet_NaN(); },
                 "a cpu limit of nan"},
        SpecCase{"InfiniteCpus",
                 [](Spec& s) { s.limits.cpus = std::numeric_limits<double>::infinity(); },
                 "a cpu limit of inf"},
        SpecCase{"SoftAboveHard",
                 [](Spec& s) {
                   s.rlimits = {{RLIMIT_NOFILE, 6, 5}};
                 },
                 "the soft limit 6 is above the hard limit 5"}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    NamesAndContradictions, ValidateSpecTest,
    ::testing::Values(
        SpecCase{"LongHostname", [](Spec& s) { s.hostname = std::string(65, 'h'); },
                 "the hostname has 65 bytes; the kernel takes 64"},
        SpecCase{"HostnameWithNul", [](Spec& s) { s.hostname = WithNul(); },
                 "the hostname contains a NUL byte"},
        SpecCase{"UnchangedUid", [](Spec& s) { s.uid = UINT32_MAX; }, "4294967295 is not an id"},
        SpecCase{"UnchangedGid", [](Spec& s) { s.gid = UINT32_MAX; }, "4294967295 is not an id"},
        SpecCase{"UnknownCapability", [](Spec& s) { s.capabilities = {"NET_ADMN"}; },
                 "did you mean CAP_NET_ADMIN?"},
        SpecCase{"EmptyCapability", [](Spec& s) { s.capabilities = {""}; }, "capabilities(7)"},
        SpecCase{"RootWithoutMountNamespace",
                 [](Spec& s) {
                   Rooted(s);
                   s.ns(NamespaceKind::kMount).mode = NamespaceMode::kHost;
                 },
                 "need a mount namespace of the worker's own"},
        SpecCase{"BindIntoAJoinedMountNamespace",
                 [](Spec& s) {
                   s.binds = {{"/a", "/b", false}};
                   s.ns(NamespaceKind::kMount) = {NamespaceMode::kJoin, "/proc/1/ns/mnt"};
                 },
                 "need a mount namespace of the worker's own"},
        SpecCase{"TmpfsWithoutMountNamespace",
                 [](Spec& s) {
                   s.tmpfs = {{.target = "/t"}};
                   s.ns(NamespaceKind::kMount).mode = NamespaceMode::kHost;
                 },
                 "need a mount namespace of the worker's own"},
        SpecCase{"OffsetsOfTheHostsClocks",
                 [](Spec& s) {
                   s.time_offsets.boottime = nanoseconds(1);
                   s.ns(NamespaceKind::kTime).mode = NamespaceMode::kHost;
                 },
                 "clock offsets need a new time namespace"},
        SpecCase{"OffsetsOfJoinedClocks",
                 [](Spec& s) {
                   s.time_offsets.monotonic = seconds(1);
                   s.ns(NamespaceKind::kTime) = {NamespaceMode::kJoin, "/proc/1/ns/time"};
                 },
                 "clock offsets need a new time namespace"},
        SpecCase{"LimitsWithoutACgroup",
                 [](Spec& s) {
                   s.limits.pids = 5;
                   s.use_cgroup = false;
                 },
                 "limits need a cgroup of the worker's own"}),
    [](const auto& test) { return std::string(test.param.name); });

// --- Command ------------------------------------------------------------------------------------

struct CommandCase {
  std::string_view name;
  std::function<void(Command&)> change;
  std::string_view sentence;
};
void PrintTo(const CommandCase& test, std::ostream* out) { *out << test.name; }

class ValidateCommandTest : public ::testing::TestWithParam<CommandCase> {};

TEST_P(ValidateCommandTest, Decides) {
  Command command;
  command.argv = {"true"};
  GetParam().change(command);
  const absl::Status status = Validate(command);
  if (GetParam().sentence.empty()) {
    EXPECT_TRUE(status.ok()) << Message(status);
    return;
  }
  ASSERT_FALSE(status.ok()) << "it was taken";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(status)), HasSubstr(std::string(GetParam().sentence)));
  EXPECT_LT(Message(status).size(), 500U) << "a sentence, not an echo of the input";
}

constexpr std::size_t kLongestString = 128 * 1024 - 1;

INSTANTIATE_TEST_SUITE_P(
    All, ValidateCommandTest,
    ::testing::Values(
        CommandCase{"Plain", [](Command&) {}, ""},
        CommandCase{"EmptyArguments",
                    [](Command& c) {
                      c.argv = {"true", "", ""};
                    },
                    ""},
        CommandCase{"EmptyValue", [](Command& c) { c.env = {"A="}; }, ""},
        CommandCase{"ValueWithEquals", [](Command& c) { c.env = {"A==b=c"}; }, ""},
        CommandCase{"LongestString", [](Command& c) { c.argv.emplace_back(kLongestString, 'a'); },
                    ""},
        CommandCase{"ShortestTimeout", [](Command& c) { c.timeout = nanoseconds(1); }, ""},
        CommandCase{"NoCommand", [](Command& c) { c.argv.clear(); }, "no command was given"},
        CommandCase{"EmptyCommand", [](Command& c) { c.argv = {""}; }, "no command was given"},
        CommandCase{"ArgumentWithNul", [](Command& c) { c.argv.push_back(WithNul()); },
                    "argument 1 contains a NUL byte"},
        CommandCase{"VariableWithNul",
                    [](Command& c) {
                      c.env = {"A=b", "B=" + WithNul()};
                    },
                    "environment entry 1 contains a NUL byte"},
        CommandCase{"LongArgument",
                    [](Command& c) { c.argv.emplace_back(kLongestString + 1, 'a'); },
                    "argument 1 has 131072 bytes; the kernel takes at most 131071"},
        CommandCase{"LongVariable",
                    [](Command& c) { c.env = {"A=" + std::string(kLongestString, 'a')}; },
                    "environment entry 0 has"},
        CommandCase{"LongInAll",
                    [](Command& c) {
                      for (int i = 0; i < 13; ++i) c.argv.emplace_back(kLongestString, 'a');
                    },
                    "arguments and environment together have"},
        CommandCase{"ManyEmptyArguments",
                    [](Command& c) {
                      c.argv.resize(200'000);
                      c.argv[0] = "x";
                    },
                    "arguments and environment together have"},
        CommandCase{"VariableWithoutValue", [](Command& c) { c.env = {"PATH"}; },
                    "an environment entry must be NAME=value, not \"PATH\""},
        CommandCase{"VariableWithoutName", [](Command& c) { c.env = {"=value"}; },
                    "an environment entry must be NAME=value, not \"=value\""},
        CommandCase{"EmptyVariable", [](Command& c) { c.env = {""}; },
                    "an environment entry must be NAME=value, not \"\""},
        CommandCase{"RelativeDirectory", [](Command& c) { c.cwd = "tmp"; },
                    "the working directory must be an absolute path, not \"tmp\""},
        CommandCase{"NoDirectory", [](Command& c) { c.cwd.clear(); },
                    "the working directory must be an absolute path"},
        CommandCase{"DirectoryWithNul", [](Command& c) { c.cwd = WithNul(); },
                    "the working directory contains a NUL byte"},
        CommandCase{"NoTime", [](Command& c) { c.timeout = nanoseconds(0); },
                    "a timeout must be longer than zero"},
        CommandCase{"NegativeTime", [](Command& c) { c.timeout = seconds(-1); },
                    "a timeout must be longer than zero"},
        CommandCase{"MissingDescriptor",
                    [](Command& c) {
                      c.stdio = {StdioMode::kFds, {0, -1, 2}, 0};
                    },
                    "three open descriptors are needed"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(NamespaceNamesTest, AreUniqueAndMatchTheKernelsFlags) {
  std::set<std::string_view> names;
  std::uint64_t flags = 0;
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    EXPECT_TRUE(names.insert(NamespaceName(kind)).second) << NamespaceName(kind);
    EXPECT_EQ(flags & NamespaceFlag(kind), 0U) << NamespaceName(kind);
    flags |= NamespaceFlag(kind);
  }
  EXPECT_EQ(flags, 0x7e020080U) << "all CLONE_NEW* flags of clone(2)";
  EXPECT_EQ(NamespaceProcName(NamespaceKind::kMount), "mnt");
  EXPECT_EQ(NamespaceProcName(NamespaceKind::kPid), "pid");
}

TEST(DefaultEnvironmentTest, IsValidAndFindsPrograms) {
  Command command;
  command.argv = {"true"};
  command.env = DefaultEnvironment();
  EXPECT_TRUE(Validate(command).ok());
  EXPECT_THAT(command.env, ::testing::Contains(StartsWith("PATH=/")));
}

}  // namespace
}  // namespace brood
