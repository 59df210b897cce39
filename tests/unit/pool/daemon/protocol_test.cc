// SPDX-License-Identifier: Apache-2.0

// The protocol's messages: what is written is read back, and nothing else is taken.
#include "pool/daemon/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

template <typename M>
std::vector<M> Samples();
template <>
std::vector<Submit> Samples() {
  return {{},
          {"web",
           "job",
           {"/bin/sh", "", std::string("a\0b", 3)},
           {"A=b", ""},
           "/tmp",
           ClientIo::kTerminal,
           24,
           80,
           ~0ULL,
           1,
           {.memory_bytes = 64 << 20,
            .memory_high_bytes = 32 << 20,
            .swap_bytes = 0,
            .pids = 3,
            .cpus = 0.5,
            .cpu_period_us = 10'000,
            .cpu_weight = 10'000,
            .io = {{.major = 8, .read_bytes = 1 << 20}, {.major = 259, .minor = 1, .write_ops = 9}},
            .io_weight = 1,
            .cpuset_cpus = "0-3,7",
            .cpuset_mems = "0"}}};
}
template <>
std::vector<ExecIn> Samples() {
  return {{}, {"3f2", {"ls", "-l"}, {"PATH=/bin"}, "/", ClientIo::kNone, 65535, 1, 2}};
}
template <>
std::vector<SignalTo> Samples() {
  return {{}, {"web", {-1, 1, 1}}};
}
template <>
std::vector<AskReads> Samples() {
  return {{}, {1, 2, UINT64_MAX}};
}
template <>
std::vector<Reads> Samples() {
  return {{}, {1}};
}
template <>
std::vector<StopIsolate> Samples() {
  return {{}, {"web", 10'000'000'000}};
}
template <>
std::vector<IsolateName> Samples() {
  return {{}, {std::string(70'000, 'x')}};
}
template <>
std::vector<ListIsolates> Samples() {
  return {{}, {1}};
}
template <>
std::vector<ReadLogs> Samples() {
  return {{}, {"web", 1}};
}
template <>
std::vector<StartedAs> Samples() {
  return {{}, {"0123456789ab", 4711}};
}
template <>
std::vector<Ended> Samples() {
  return {{}, {125, "why", "{}"}};
}
template <>
std::vector<Text> Samples() {
  return {{}, {"\xff\xfe"}};
}
template <>
std::vector<LogPart> Samples() {
  return {{}, {2, 1ULL << 40, std::string(4096, '\0')}};
}
template <>
std::vector<Refusal> Samples() {
  return {{}, {5, "there is none"}};
}

template <typename M>
class MessageTest : public ::testing::Test {};
using Messages =
    ::testing::Types<AskReads, Reads, Submit, ExecIn, SignalTo, StopIsolate, IsolateName,
                     ListIsolates, ReadLogs, StartedAs, Ended, Text, LogPart, Refusal>;
TYPED_TEST_SUITE(MessageTest, Messages);

TYPED_TEST(MessageTest, ComesBackAsItWent) {
  for (const TypeParam& sample : Samples<TypeParam>()) {
    const auto decoded = DecodeBody<TypeParam>(EncodeBody(sample));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    // Field by field: both lists are walked by one Fields at a time.
    std::vector<std::string> before;
    std::vector<std::string> after;
    const auto into = [](std::vector<std::string>& out) {
      return [&out](const auto& field) { FieldWriter(out.emplace_back())(field); };
    };
    TypeParam::Fields(into(before), sample);
    TypeParam::Fields(into(after), *decoded);
    EXPECT_EQ(before, after);
  }
}

TYPED_TEST(MessageTest, TruncatedAnywhereIsRefused) {
  for (const TypeParam& sample : Samples<TypeParam>()) {
    const std::string body = EncodeBody(sample);
    for (std::size_t length = 0; length<body.size(); length += body.size()> 10'000 ? 997 : 1) {
      EXPECT_FALSE(DecodeBody<TypeParam>(std::string_view(body).substr(0, length)).ok()) << length;
    }
  }
}

TYPED_TEST(MessageTest, OverLongIsRefused) {
  for (const TypeParam& sample : Samples<TypeParam>()) {
    for (const std::size_t more : {1, 4, 100}) {
      EXPECT_FALSE(DecodeBody<TypeParam>(EncodeBody(sample) + std::string(more, '\0')).ok())
          << more;
    }
  }
}

std::string Number(std::uint32_t number) {
  return {reinterpret_cast<const char*>(&number), sizeof(number)};
}

TEST(FieldReaderTest, LengthsThatLieAreRefused) {
  for (const std::uint32_t lie : {1U, 5U, 0x7fffffffU, 0x80000000U, 0xfffffffcU, 0xffffffffU}) {
    const std::string body = Number(lie);
    FieldReader text_reader(body);
    std::string text;
    text_reader(text);
    EXPECT_FALSE(text_reader.ok()) << lie;

    FieldReader list_reader(body);
    std::vector<std::string> list;
    list_reader(list);
    EXPECT_FALSE(list_reader.ok()) << lie;
    EXPECT_TRUE(list.empty()) << lie;
  }
}

TEST(FieldReaderTest, ACountIsBelievedOnlyAsFarAsThereAreBytes) {
  // Room for three empty strings, and four are claimed; then three, of which the last is longer.
  for (const std::string& body : {Number(4) + Number(0) + Number(0) + Number(0),
                                  Number(3) + Number(0) + Number(0) + Number(1)}) {
    FieldReader reader(body);
    std::vector<std::string> list;
    reader(list);
    EXPECT_FALSE(reader.ok());
    EXPECT_LE(list.size(), 3U);
  }
}

TEST(FieldReaderTest, AfterAFailureNothingIsRead) {
  const std::string body = Number(100) + Number(7);
  FieldReader reader(body);
  std::string text = "as it was";
  std::uint32_t number = 1;
  reader(text);
  reader(number);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(text, "as it was");
  EXPECT_EQ(number, 1U);
}

TEST(CheckHeaderTest, TakesWhatIsAllowed) {
  for (const std::uint32_t length : {0U, 1U, kMaxBody}) {
    for (const std::uint32_t fds : {0U, kMaxMessageFds}) {
      MessageHeader header;
      header.length = length;
      header.fds = fds;
      EXPECT_TRUE(CheckHeader(header).ok()) << length << " " << fds;
    }
  }
}

TEST(CheckHeaderTest, RefusesTheRest) {
  struct BadHeader {
    MessageHeader header;
    absl::StatusCode code;
  };
  const std::vector<BadHeader> cases = {
      {{.magic = 0}, absl::StatusCode::kInvalidArgument},
      {{.magic = __builtin_bswap32(kProtocolMagic)}, absl::StatusCode::kInvalidArgument},
      {{.version = 0}, absl::StatusCode::kFailedPrecondition},
      {{.version = kProtocolVersion + 1}, absl::StatusCode::kFailedPrecondition},
      {{.length = kMaxBody + 1}, absl::StatusCode::kInvalidArgument},
      {{.length = ~0U}, absl::StatusCode::kInvalidArgument},
      {{.fds = kMaxMessageFds + 1}, absl::StatusCode::kInvalidArgument},
      {{.fds = ~0U}, absl::StatusCode::kInvalidArgument},
  };
  for (const BadHeader& each : cases) EXPECT_EQ(CheckHeader(each.header).code(), each.code);
}

}  // namespace
}  // namespace brood
