// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/cgi_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(CgiHeadTest, EndsWithAnEmptyLine) {
  constexpr std::string_view kHead = "Status: 201 Created\r\nContent-Type: text/html\nX-A:b\n\n";
  for (std::size_t i = 0; i < kHead.size(); ++i) {
    EXPECT_FALSE(ParseCgiHead(kHead.substr(0, i))) << i;
  }
  const auto head = ParseCgiHead(std::string(kHead) + "body\n\n");
  ASSERT_TRUE(head);
  EXPECT_EQ(head->error, "");
  EXPECT_EQ(head->status.code, 201);
  EXPECT_THAT(head->fields, ElementsAre(Pair("Content-Type", "text/html"), Pair("X-A", "b")));
  EXPECT_EQ(head->bytes, kHead.size());
}

TEST(CgiHeadTest, MayHaveNoFields) {
  const auto head = ParseCgiHead("\nbody");
  ASSERT_TRUE(head);
  EXPECT_EQ(head->status.code, 200);
  EXPECT_THAT(head->fields, IsEmpty());
  EXPECT_EQ(head->bytes, 1U);
}

TEST(CgiHeadTest, TheStatusLineSaysAll) {
  struct Case {
    const char* output;
    int code;
    const char* reason;
  };
  const Case cases[] = {
      {"Status: 404 Nobody Home\n\n", 404, "Nobody Home"},
      {"STATUS: 204\n\n", 204, ""},
      {"status: 304 Not Modified\n\n", 304, "Not Modified"},
      {"Location: /there\n\n", 302, ""},
      {"location: https://example.org/\nStatus: 301 Moved\n\n", 301, "Moved"},
  };
  for (const Case& each : cases) {
    const auto head = ParseCgiHead(each.output);
    ASSERT_TRUE(head) << each.output;
    EXPECT_EQ(head->error, "") << each.output;
    EXPECT_EQ(head->status.code, each.code) << each.output;
    EXPECT_EQ(head->status.reason, each.reason) << each.output;
  }
}

TEST(CgiHeadTest, LeavesOutWhatIsNotTheFunctionsToSet) {
  const auto head = ParseCgiHead("Content-LENGTH: 3\nBrood-Path: x\nTrailer: y\nX: z\n\n");
  ASSERT_TRUE(head);
  EXPECT_EQ(head->error, "");
  EXPECT_THAT(head->fields, ElementsAre(Pair("X", "z")));
}

TEST(CgiHeadTest, IsRefusedAtTheFirstLineThatIsNoField) {
  for (const std::string_view output :
       {"<html>\n", "A: b\nno field\n", "A B: c\n", ": x\n", "A: b\rc\n", "A: \x7f\n"}) {
    const auto head = ParseCgiHead(output);
    ASSERT_TRUE(head) << output;
    EXPECT_EQ(head->error, "a line of its head is not a header field") << output;
  }
  for (const std::string_view status : {"", "100", "199", "600", "x", "-200", "200x"}) {
    const auto head = ParseCgiHead("Status: " + std::string(status) + "\n");
    ASSERT_TRUE(head) << status;
    EXPECT_THAT(head->error, HasSubstr("200 to 599")) << status;
  }
}

TEST(CgiHeadTest, IsNotWaitedForWithoutEnd) {
  EXPECT_FALSE(ParseCgiHead(std::string(16384, 'x')));
  const auto head = ParseCgiHead(std::string(16385, 'x'));
  ASSERT_TRUE(head);
  EXPECT_EQ(head->error, "its head is too long");
}

}  // namespace
}  // namespace brood
