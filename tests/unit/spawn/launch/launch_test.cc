// SPDX-License-Identifier: Apache-2.0

// A command laid out in one memory for use in another.
#include "spawn/launch/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Where the bytes pretend to be: nothing is mapped there, so a pointer meant for the writer's own
// memory cannot pass for one.
constexpr std::uint64_t kBase = 0x5555'0000'1000;
constexpr unsigned char kUntouched = 0xa5;

// Reads a layout as the worker would, with `base` taken off every address.
class Reader {
 public:
  Reader(const std::vector<std::uint64_t>& memory, std::size_t bytes, std::uint64_t base)
      : start_(reinterpret_cast<const char*>(memory.data())), bytes_(bytes), base_(base) {}

  std::string Text(std::uint64_t address) const {
    const std::uint64_t offset = address - base_;
    if (address < base_ || offset >= bytes_) return "<outside the layout>";
    const auto* end = static_cast<const char*>(std::memchr(start_ + offset, 0, bytes_ - offset));
    return end == nullptr ? "<unterminated>" : std::string(start_ + offset, end);
  }

  std::vector<std::string> Array(std::uint64_t address) const {
    std::vector<std::string> texts;
    EXPECT_EQ(address % 8, 0U) << "pointers must be aligned";
    for (std::uint64_t at = address - base_; at + 8 <= bytes_; at += 8) {
      std::uint64_t pointer = 0;
      std::memcpy(&pointer, start_ + at, sizeof(pointer));
      if (pointer == 0) return texts;
      texts.push_back(Text(pointer));
    }
    ADD_FAILURE() << "the array does not end";
    return texts;
  }

 private:
  const char* start_;
  std::size_t bytes_;
  std::uint64_t base_;
};

struct LayoutCase {
  std::string_view name;
  Command command;
};
void PrintTo(const LayoutCase& test, std::ostream* out) { *out << test.name; }

Command CommandOf(std::vector<std::string> argv, std::vector<std::string> env,
                  std::string cwd = "/") {
  Command command;
  command.argv = std::move(argv);
  command.env = std::move(env);
  command.cwd = std::move(cwd);
  return command;
}

class LaunchLayoutTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(LaunchLayoutTest, ReadsBackAtAnotherAddress) {
  const Command& command = GetParam().command;
  const LaunchLayout layout(command);
  constexpr std::size_t kGuard = 64;
  std::vector<std::uint64_t> memory((layout.bytes() + kGuard) / 8 + 1);
  std::memset(memory.data(), kUntouched, memory.size() * 8);
  LaunchRecord record;
  layout.Write(reinterpret_cast<char*>(memory.data()), kBase, record);

  const Reader reader(memory, layout.bytes(), kBase);
  EXPECT_EQ(reader.Array(record.argv), command.argv);
  EXPECT_EQ(reader.Array(record.envp), command.env);
  EXPECT_EQ(reader.Array(record.candidates), ExecCandidates(command));
  EXPECT_EQ(reader.Text(record.cwd), command.cwd);

  const auto* bytes = reinterpret_cast<const unsigned char*>(memory.data());
  for (std::size_t i = 0; i < kGuard; ++i) {
    ASSERT_EQ(bytes[layout.bytes() + i], kUntouched) << i << " bytes beyond the layout";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Commands, LaunchLayoutTest,
    ::testing::Values(LayoutCase{"OneWord", CommandOf({"true"}, {})},
                      LayoutCase{"ByPath", CommandOf({"/bin/true"}, {"A=b"})},
                      LayoutCase{"EmptyArguments", CommandOf({"/x", "", "", "y", ""}, {})},
                      LayoutCase{"Several", CommandOf({"sh", "-c", "echo $A"},
                                                      {"PATH=/a:/b:/c", "A=ü", "B="}, "/tmp")},
                      LayoutCase{"NoCandidates", CommandOf({"sh"}, {"PATH="})},
                      LayoutCase{"Long", CommandOf({"/x", std::string(131071, 'a')},
                                                   {"A=" + std::string(100'000, 'b')},
                                                   "/" + std::string(4000, 'c'))},
                      LayoutCase{"Many", CommandOf(std::vector<std::string>(10'000, "/x"), {})}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LaunchLayoutTest, LeavesDescriptorsAndLaneAlone) {
  LaunchRecord record;
  record.fds[1] = 7;
  record.lane = 3;
  const Command command = CommandOf({"true"}, {});
  const LaunchLayout layout(command);
  std::vector<std::uint64_t> memory(layout.bytes() / 8 + 1);
  layout.Write(reinterpret_cast<char*>(memory.data()), kBase, record);
  EXPECT_THAT(record.fds, ElementsAre(-1, 7, -1));
  EXPECT_EQ(record.lane, 3);
}

TEST(ExecCandidatesTest, FollowsTheCommandsOwnPath) {
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {"PATH=/a:/b"})), ElementsAre("/a/ls", "/b/ls"));
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {"XPATH=/x", "PATH=/a", "PATHX=/y"})),
              ElementsAre("/a/ls"));
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {})),
              ElementsAre("/usr/local/bin/ls", "/usr/bin/ls", "/bin/ls"))
      << "without PATH the places of every distribution";
}

TEST(ExecCandidatesTest, TakesANameWithASlashAsItIs) {
  for (const char* name : {"/bin/ls", "./ls", "bin/ls", "/", "ls/"}) {
    EXPECT_THAT(ExecCandidates(CommandOf({name}, {"PATH=/a"})), ElementsAre(name));
  }
}

TEST(ExecCandidatesTest, NeverSearchesTheWorkingDirectory) {
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {"PATH=:/a:"})), ElementsAre("/a/ls"));
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {"PATH=/a::/b"})), ElementsAre("/a/ls", "/b/ls"));
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {"PATH="})), IsEmpty());
  EXPECT_THAT(ExecCandidates(CommandOf({"ls"}, {"PATH=:::"})), IsEmpty());
}

}  // namespace
}  // namespace brood
