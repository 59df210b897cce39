// SPDX-License-Identifier: Apache-2.0

// Words of the command line: what is taken, with its value, and what is refused, with a sentence
// that names the word.
#include "pool/cli/values.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

using std::chrono::nanoseconds;
using ::testing::HasSubstr;

// Words that no parser of quantities may take.
const std::vector<std::string_view> kNoQuantity = {
    "",     " ",    ".",     "-",     "+5",        "abc",      "inf", "infinity", "nan",
    "NaN",  "0x10", "1e3",   "1e400", "1,5",       "5 ",       " 5",  "\t5",      "5\n",
    "1..5", "--5",  "1_000", "５",    "5\xc2\xa0", "\xff\xfe", "五",  "1/2"};

template <typename Value>
void ExpectRefused(const absl::StatusOr<Value>& result, std::string_view word) {
  ASSERT_FALSE(result.ok()) << "\"" << word << "\" was taken";
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << word;
  EXPECT_THAT(std::string(Message(result.status())), HasSubstr(std::string(word)));
}

struct SizeCase {
  std::string_view word;
  std::uint64_t bytes;
};

TEST(ParseSizeTest, TakesBinaryUnits) {
  const std::vector<SizeCase> cases = {
      {"1", 1},
      {"4096", 4096},
      {"1K", 1024},
      {"64M", 64ULL << 20},
      {"64m", 64ULL << 20},
      {"1G", 1ULL << 30},
      {"1.5G", 3ULL << 29},
      {"0.5K", 512},
      {"2T", 2ULL << 40},
      {"1048576T", 1ULL << 60},
      {"0001", 1},
  };
  for (const SizeCase& test : cases) {
    const auto bytes = ParseSize(test.word);
    ASSERT_TRUE(bytes.ok()) << test.word << ": " << Message(bytes.status());
    EXPECT_EQ(*bytes, test.bytes) << test.word;
  }
}

TEST(ParseSizeTest, RefusesEverythingElse) {
  for (const std::string_view word : kNoQuantity) ExpectRefused(ParseSize(word), word);
  for (const std::string_view word :
       {"0", "0M", "-1", "-64M", "0.5", "0.0001K", "64 M", "64X", "64MM", "M", "iB", "1iB", "64P",
        "64M;", "1M1M", "1048577T", "18446744073709551615", "18446744073709551616",
        "99999999999999999999999999T"}) {
    ExpectRefused(ParseSize(word), word);
  }
  ExpectRefused(ParseSize(std::string_view("64M\0", 4)), std::string_view("64M\0", 4));
  const std::string huge(100'000, '9');
  EXPECT_FALSE(ParseSize(huge).ok());
}

struct DurationCase {
  std::string_view word;
  std::int64_t nanoseconds;
};

TEST(ParseDurationTest, TakesSecondsAndUnits) {
  const std::vector<DurationCase> cases = {
      {"5", 5'000'000'000},     {"5s", 5'000'000'000},
      {"200ms", 200'000'000},   {"0.25", 250'000'000},
      {"1.5m", 90'000'000'000}, {"2h", 7'200'000'000'000},
      {"0.001ms", 1'000},       {"0.000000001", 1},
      {"0.000000001s", 1},      {"1000h", 3'600'000'000'000'000},
  };
  for (const DurationCase& test : cases) {
    const auto duration = ParseDuration(test.word);
    ASSERT_TRUE(duration.ok()) << test.word << ": " << Message(duration.status());
    EXPECT_EQ(duration->count(), test.nanoseconds) << test.word;
  }
}

TEST(ParseDurationTest, RefusesEverythingElse) {
  for (const std::string_view word : kNoQuantity) ExpectRefused(ParseDuration(word), word);
  for (const std::string_view word :
       {"0", "0s", "-1", "-1s", "5S", "5 s", "5sec", "5d", "s", "ms", "1h30m", "0.0000000001",
        "876600h", "9223372036854775807s", "18446744073709551616s", "99999999999999999999h"}) {
    ExpectRefused(ParseDuration(word), word);
  }
}

TEST(ParseDurationTest, LongestStillFitsAClock) {
  const auto duration = ParseDuration("870000h");
  ASSERT_TRUE(duration.ok()) << Message(duration.status());
  EXPECT_GT(*duration, nanoseconds(0));
  EXPECT_GT(nanoseconds::max() - *duration, std::chrono::hours(24 * 365 * 100));
}

struct UserCase {
  std::string_view word;
  std::uint32_t uid;
  std::uint32_t gid;
};

TEST(ParseUserTest, TakesNumbers) {
  const std::vector<UserCase> cases = {{"0", 0, 0},
                                       {"1000", 1000, 1000},
                                       {"1000:100", 1000, 100},
                                       {"0:65535", 0, 65535},
                                       {"4294967294", 4294967294, 4294967294}};
  for (const UserCase& test : cases) {
    const auto ids = ParseUser(test.word, {});
    ASSERT_TRUE(ids.ok()) << test.word << ": " << Message(ids.status());
    EXPECT_EQ(ids->first, test.uid) << test.word;
    EXPECT_EQ(ids->second, test.gid) << test.word;
  }
}

TEST(ParseUserTest, LooksNamesUp) {
  const passwd* nobody = getpwnam("nobody");
  if (nobody == nullptr) GTEST_SKIP() << "missing: a user named nobody";
  const std::uint32_t uid = nobody->pw_uid;
  const std::uint32_t gid = nobody->pw_gid;
  EXPECT_EQ(ParseUser("nobody", {}).value(), std::pair(uid, gid));
  EXPECT_EQ(ParseUser("root", {}).value(), std::pair(0U, 0U));
  EXPECT_EQ(ParseUser("nobody:root", {}).value(), std::pair(uid, 0U));
  EXPECT_EQ(ParseUser("nobody:7", {}).value(), std::pair(uid, 7U));
  EXPECT_EQ(ParseUser("7:root", {}).value(), std::pair(7U, 0U));
}

// A root as somebody else has made it.
class UserDatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(root_ / "etc");
    std::filesystem::create_directories(base_ / "outside");
    std::ofstream(root_ / "etc/passwd") << "root:x:0:0::/:/bin/sh\napp:x:4242:4343::/:/bin/sh\n";
    std::ofstream(root_ / "etc/group") << "root:x:0:\nstaff-of-root:x:4444:app\n";
    std::ofstream(base_ / "outside/passwd") << "root:x:0:0::/:/bin/sh\nspy:x:7:7::/:/bin/sh\n";
  }
  void TearDown() override { std::filesystem::remove_all(base_); }
  UserDatabase Inside(std::vector<Bind> binds = {}) const {
    return {root_.string(), std::move(binds)};
  }

  const std::filesystem::path base_ =
      std::filesystem::path(::testing::TempDir()) / ("brood_accounts_" + std::to_string(getpid()));
  const std::filesystem::path root_ = base_ / "root";
};

TEST_F(UserDatabaseTest, NamesAreTheRootsOwn) {
  EXPECT_EQ(ParseUser("app", Inside()).value(), std::pair(4242U, 4343U));
  EXPECT_EQ(ParseUser("app:staff-of-root", Inside()).value(), std::pair(4242U, 4444U));
  EXPECT_EQ(ParseUser("7:staff-of-root", Inside()).value(), std::pair(7U, 4444U));
  // The host knows it, the root does not.
  for (const char* const word : {"nobody", "app:nogroup"}) {
    const auto ids = ParseUser(word, Inside());
    ASSERT_FALSE(ids.ok()) << word;
    EXPECT_THAT(std::string(Message(ids.status())), HasSubstr("of " + root_.string()));
  }
}

TEST_F(UserDatabaseTest, NoLinkLeadsOutOfTheRoot) {
  const std::filesystem::path passwd = root_ / "etc/passwd";
  for (const std::string& link :
       {(base_ / "outside/passwd").string(), std::string("../../outside/passwd"),
        std::string("/proc/self/root/etc/passwd")}) {
    std::filesystem::remove(passwd);
    std::filesystem::create_symlink(link, passwd);
    EXPECT_FALSE(ParseUser("spy", Inside()).ok()) << link;
    EXPECT_FALSE(ParseUser("root", Inside()).ok()) << link;
  }
  std::filesystem::remove(passwd);
  std::ofstream(root_ / "accounts") << "app:x:5:6::/:/bin/sh\n";
  std::filesystem::create_symlink("/accounts", passwd);
  EXPECT_EQ(ParseUser("app", Inside()).value(), std::pair(5U, 6U)) << "a link within the root";
}

TEST_F(UserDatabaseTest, AFifoIsNotWaitedFor) {
  std::filesystem::remove(root_ / "etc/passwd");
  ASSERT_EQ(mkfifo((root_ / "etc/passwd").c_str(), 0600), 0);
  EXPECT_THAT(std::string(Message(ParseUser("app", Inside()).status())),
              HasSubstr("not a regular file"));
  std::filesystem::remove(root_ / "etc/passwd");
  EXPECT_THAT(std::string(Message(ParseUser("app", Inside()).status())),
              HasSubstr("give a number"));
}

TEST_F(UserDatabaseTest, WhatIsBoundOverThemCounts) {
  const std::string outside = (base_ / "outside").string();
  EXPECT_EQ(ParseUser("spy", Inside({{outside + "/passwd", "/etc/passwd"}})).value(),
            std::pair(7U, 7U));
  EXPECT_EQ(ParseUser("spy", Inside({{outside, "/etc"}})).value(), std::pair(7U, 7U));
  EXPECT_EQ(ParseUser("app", Inside({{outside, "/etc/other"}})).value(), std::pair(4242U, 4343U));
}

TEST(ParseUserTest, RefusesEverythingElse) {
  const std::string huge(100'000, 'u');
  for (const std::string_view word :
       {std::string_view(""), std::string_view(":"), std::string_view(":0"), std::string_view("0:"),
        std::string_view("-1"), std::string_view("0:-1"), std::string_view("4294967296"),
        std::string_view("0:4294967296"), std::string_view("18446744073709551616"),
        std::string_view(" 0"), std::string_view("0 "), std::string_view("0x0"),
        std::string_view("1.5"), std::string_view("1:2:3"), std::string_view("no-such-user-here"),
        std::string_view("root:no-such-group-here"), std::string_view("rööt"),
        std::string_view("root/x"), std::string_view(huge)}) {
    const auto ids = ParseUser(word, {});
    ASSERT_FALSE(ids.ok()) << word.substr(0, 40) << " was taken";
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << word.substr(0, 40);
    EXPECT_THAT(std::string(Message(ids.status())), HasSubstr("give a number"));
  }
}

struct BindCase {
  std::string_view word;
  std::string_view source;
  std::string_view target;
  bool read_only;
};

TEST(ParseBindTest, TakesSourceTargetAndMode) {
  const std::vector<BindCase> cases = {
      {"/a:/b", "/a", "/b", false},
      {"/a:/b:ro", "/a", "/b", true},
      {"/a:/b:rw", "/a", "/b", false},
      {".:/b", ".", "/b", false},
      {"/with space:/und ü:ro", "/with space", "/und ü", true},
  };
  for (const BindCase& test : cases) {
    const auto bind = ParseBind(test.word);
    ASSERT_TRUE(bind.ok()) << test.word << ": " << Message(bind.status());
    EXPECT_EQ(bind->source, test.source) << test.word;
    EXPECT_EQ(bind->target, test.target) << test.word;
    EXPECT_EQ(bind->read_only, test.read_only) << test.word;
  }
}

TEST(ParseBindTest, RefusesEverythingElse) {
  for (const std::string_view word : {"", ":", "/a", ":/b", "/a:", "/a::ro", "/a:/b:", "/a:/b:RO",
                                      "/a:/b:ro:", "/a:/b:ro:rw", "/a:/b:/c", "/a:/b: ro"}) {
    ExpectRefused(ParseBind(word), word);
  }
}

TEST(ParseTmpfsTest, TakesTargetAndSize) {
  const auto plain = ParseTmpfs("/scratch");
  ASSERT_TRUE(plain.ok()) << Message(plain.status());
  EXPECT_EQ(plain->target, "/scratch");
  EXPECT_EQ(plain->bytes, 64ULL << 20);
  EXPECT_EQ(plain->mode, 01777U) << "any user inside may write to it";
  const auto sized = ParseTmpfs("/scratch:1.5G");
  ASSERT_TRUE(sized.ok()) << Message(sized.status());
  EXPECT_EQ(sized->target, "/scratch");
  EXPECT_EQ(sized->bytes, 3ULL << 29);
}

TEST(ParseTmpfsTest, RefusesEverythingElse) {
  for (const std::string_view word :
       {"", ":64M", "/scratch:", "/scratch:0", "/scratch:-1", "/scratch:64M:64M", "/scratch:big",
        "/scratch:nan", "/scratch:99999999T"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseTmpfs(word).status())) << word;
  }
}

struct RlimitCase {
  std::string_view word;
  int resource;
  std::uint64_t soft;
  std::uint64_t hard;
};

TEST(ParseRlimitTest, TakesEveryResource) {
  const std::vector<RlimitCase> cases = {
      {"AS=1", RLIMIT_AS, 1, 1},
      {"CORE=unlimited", RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY},
      {"CPU=1:2", RLIMIT_CPU, 1, 2},
      {"DATA=1:unlimited", RLIMIT_DATA, 1, RLIM_INFINITY},
      {"FSIZE=0", RLIMIT_FSIZE, 0, 0},
      {"LOCKS=1", RLIMIT_LOCKS, 1, 1},
      {"MEMLOCK=1", RLIMIT_MEMLOCK, 1, 1},
      {"MSGQUEUE=1", RLIMIT_MSGQUEUE, 1, 1},
      {"NICE=1", RLIMIT_NICE, 1, 1},
      {"NOFILE=1024:4096", RLIMIT_NOFILE, 1024, 4096},
      {"NPROC=1", RLIMIT_NPROC, 1, 1},
      {"RSS=1", RLIMIT_RSS, 1, 1},
      {"RTPRIO=1", RLIMIT_RTPRIO, 1, 1},
      {"RTTIME=1", RLIMIT_RTTIME, 1, 1},
      {"SIGPENDING=1", RLIMIT_SIGPENDING, 1, 1},
      {"STACK=8388608", RLIMIT_STACK, 8388608, 8388608},
      {"nofile=7", RLIMIT_NOFILE, 7, 7},
      {"RLIMIT_NOFILE=7", RLIMIT_NOFILE, 7, 7},
      {"rlimit_nofile=7", RLIMIT_NOFILE, 7, 7},
      {"AS=18446744073709551615", RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY},
  };
  std::vector<bool> seen(RLIM_NLIMITS);
  for (const RlimitCase& test : cases) {
    const auto limit = ParseRlimit(test.word);
    ASSERT_TRUE(limit.ok()) << test.word << ": " << Message(limit.status());
    EXPECT_EQ(limit->resource, test.resource) << test.word;
    EXPECT_EQ(limit->soft, test.soft) << test.word;
    EXPECT_EQ(limit->hard, test.hard) << test.word;
    seen.at(static_cast<std::size_t>(limit->resource)) = true;
  }
  EXPECT_EQ(seen, std::vector<bool>(RLIM_NLIMITS, true)) << "a resource has no name";
}

TEST(ParseRlimitTest, RefusesEverythingElse) {
  for (const std::string_view word : {"",
                                      "=",
                                      "=5",
                                      "NOFILE",
                                      "NOFILE=",
                                      "NOFILE:5",
                                      "NOFILE=:5",
                                      "NOFILE=5:",
                                      "NOFILE=-1",
                                      "NOFILE=5:-1",
                                      "NOFILE=1.5",
                                      "NOFILE=1K",
                                      "NOFILE=0x10",
                                      "NOFILE= 5",
                                      "NOFILE=5 ",
                                      "NOFILE=1:2:3",
                                      "NOFILE=18446744073709551616",
                                      "NOFILE=Unlimited",
                                      "NOFILE=inf",
                                      "NOFILES=5",
                                      "ｎofile=5",
                                      "RLIMIT_=5"}) {
    ExpectRefused(ParseRlimit(word), word);
  }
}

TEST(ParseCpusTest, TakesSharesAndWholes) {
  EXPECT_DOUBLE_EQ(ParseCpus("0.01").value(), 0.01);
  EXPECT_DOUBLE_EQ(ParseCpus("0.5").value(), 0.5);
  EXPECT_DOUBLE_EQ(ParseCpus("2").value(), 2);
  EXPECT_DOUBLE_EQ(ParseCpus("100000").value(), 100000);
}

TEST(ParseCpusTest, RefusesEverythingElse) {
  for (const std::string_view word : kNoQuantity) ExpectRefused(ParseCpus(word), word);
  for (const std::string_view word : {"0", "-0", "0.009", "-1", "100001", "2cpus", "50%", "2 2"}) {
    ExpectRefused(ParseCpus(word), word);
  }
}

TEST(ParseIoMaxTest, TakesRatesOfADisk) {
  const auto one = ParseIoMax("4095:1048575:rbps=10M");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(*one, (IoLimit{.major = 4095, .minor = 1048575, .read_bytes = 10 << 20}));
  const auto all = ParseIoMax("4095:1:wiops=4,riops=3,wbps=2K,rbps=1");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(*all, (IoLimit{.major = 4095,
                           .minor = 1,
                           .read_bytes = 1,
                           .write_bytes = 2048,
                           .read_ops = 3,
                           .write_ops = 4}));
}

TEST(ParseIoMaxTest, RefusesEverythingElse) {
  for (const std::string_view word : kNoQuantity) ExpectRefused(ParseIoMax(word), word);
  for (const std::string_view word :
       {"4095:1", "4095:1:", "4095:1:rbps", "4095:1:rbps=", "4095:1:rbps=0", "4095:1:rbps=1,rbps=2",
        "4095:1:rbps=1,,wbps=1", "4095:1:bps=1", "4095:1:riops=1M", "4095:1:riops=0", ":rbps=1",
        "rbps=1"}) {
    ExpectRefused(ParseIoMax(word), word);
  }
  EXPECT_TRUE(absl::IsNotFound(ParseIoMax("/no/such/disk:rbps=1").status()));
  const absl::Status no_disk = ParseIoMax("/proc:rbps=1").status();
  EXPECT_THAT(std::string(Message(no_disk)), HasSubstr("lies on no single disk"));
}

TEST(ParseCountTest, TakesWholeNumbersWithinItsBounds) {
  EXPECT_EQ(ParseCount("--pids", "1", 1, 10).value(), 1U);
  EXPECT_EQ(ParseCount("--pids", "10", 1, 10).value(), 10U);
  EXPECT_EQ(ParseCount("--pids", "18446744073709551615", 0, UINT64_MAX).value(), UINT64_MAX);
}

TEST(ParseCountTest, RefusesEverythingElse) {
  for (const std::string_view word : kNoQuantity) {
    ExpectRefused(ParseCount("--pids", word, 1, 10), word);
  }
  for (const std::string_view word : {"0", "11", "-1", "1.0", "18446744073709551617", "1 1"}) {
    const auto count = ParseCount("--pids", word, 1, 10);
    ExpectRefused(count, word);
    EXPECT_THAT(std::string(Message(count.status())),
                HasSubstr("--pids must be a whole number from 1 to 10"));
  }
}

}  // namespace
}  // namespace brood
