// SPDX-License-Identifier: Apache-2.0

// A request as functions are given it.
#include "pool/functions/request_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace brood {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

RequestHead Head(Fields fields) {
  RequestHead head;
  head.method = "POST";
  head.path = "/functions/f/a%20b";
  head.query = "q=1&r";
  head.fields = std::move(fields);
  return head;
}

FunctionOptions Function() {
  FunctionOptions function;
  function.name = "f";
  function.command.env = {"PATH=/bin", "HTTP_X_OWN=mine"};
  return function;
}

std::string Variable(const std::vector<std::string>& environment, const std::string& name) {
  for (const std::string& each : environment) {
    if (each.starts_with(name + "=")) return each.substr(name.size() + 1);
  }
  return "(none)";
}

TEST(CgiEnvironmentTest, HasWhatTheStandardNames) {
  RequestHead head = Head({{"Host", "example.org:8080"}, {"Content-Type", "text/x"}});
  head.has_body = true;
  head.content_length = 12;
  const auto environment = CgiEnvironment(head, "/a%20b%00", Function(), "10.1.2.3");
  const std::pair<const char*, const char*> expected[] = {
      {"GATEWAY_INTERFACE", "CGI/1.1"}, {"REQUEST_METHOD", "POST"},
      {"SCRIPT_NAME", "/functions/f"},  {"PATH_INFO", "/a b%00"},
      {"QUERY_STRING", "q=1&r"},        {"REQUEST_URI", "/functions/f/a%20b%00?q=1&r"},
      {"CONTENT_TYPE", "text/x"},       {"CONTENT_LENGTH", "12"},
      {"SERVER_NAME", "example.org"},   {"SERVER_PORT", "8080"},
      {"SERVER_PROTOCOL", "HTTP/1.1"},  {"SERVER_SOFTWARE", "brood"},
      {"REMOTE_ADDR", "10.1.2.3"},      {"HTTP_HOST", "example.org:8080"},
  };
  for (const auto& [name, value] : expected) EXPECT_EQ(Variable(environment, name), value) << name;
}

TEST(CgiEnvironmentTest, WithoutABodyOrAPeerThereIsNothingOfThem) {
  const auto environment = CgiEnvironment(Head({{"Host", "[::1]"}}), "", Function(), "");
  for (const char* const name : {"CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_ADDR"}) {
    EXPECT_EQ(Variable(environment, name), "(none)");
  }
  EXPECT_EQ(Variable(environment, "PATH_INFO"), "");
  EXPECT_EQ(Variable(environment, "SERVER_NAME"), "[::1]");
  EXPECT_EQ(Variable(environment, "SERVER_PORT"), "80");
}

TEST(CgiEnvironmentTest, FieldsAreJoinedOrLeftOut) {
  const auto environment = CgiEnvironment(Head({{"X-A", "1"},
                                                {"x-a", "2"},
                                                {"Cookie", "a=b"},
                                                {"Cookie", "c=d"},
                                                {"X_A", "no"},
                                                {"Proxy", "evil"},
                                                {"Authorization", "Basic x"},
                                                {"Proxy-Authorization", "y"},
                                                {"Connection", "X-Hop"},
                                                {"X-Hop", "z"},
                                                {"TE", "trailers"},
                                                {"X-Own", "caller's"},
                                                {"X.B", "no"}}),
                                          "", Function(), "");
  EXPECT_EQ(Variable(environment, "HTTP_X_A"), "1, 2");
  EXPECT_EQ(Variable(environment, "HTTP_COOKIE"), "a=b; c=d");
  for (const char* const name :
       {"HTTP_PROXY", "HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_X_HOP", "HTTP_TE",
        "HTTP_CONNECTION", "HTTP_X_OWN", "HTTP_X.B"}) {
    EXPECT_EQ(Variable(environment, name), "(none)") << name;
  }
}

TEST(RequestTextTest, IsARequestThatCouldBeSent) {
  const RequestHead head = Head({{"Host", "h"},
                                 {"Connection", "close"},
                                 {"X-A", "1"},
                                 {"Transfer-Encoding", "chunked"},
                                 {"Expect", "100-continue"}});
  EXPECT_EQ(RequestText(head, "/x"), "POST /x?q=1&r HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n");
  EXPECT_THAT(RequestText(head, ""), StartsWith("POST /?q=1&r HTTP/1.1\r\n"));
}

TEST(ForwardedTextTest, TellsWhoAsked) {
  RequestHead head = Head({{"Host", "h"},
                           {"X-Forwarded-For", "1.1.1.1"},
                           {"X-Forwarded-Proto", "https"},
                           {"X-Forwarded-For", "2.2.2.2"},
                           {"X-Forwarded-Prefix", "/forged"}});
  const std::string text = ForwardedText(head, "/x", Function(), "3.3.3.3");
  EXPECT_THAT(text, HasSubstr("\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3\r\n"));
  EXPECT_THAT(text, HasSubstr("\r\nX-Forwarded-Prefix: /functions/f\r\n"));
  EXPECT_THAT(text, HasSubstr("\r\nX-Forwarded-Proto: https\r\n"));
  EXPECT_THAT(text, Not(HasSubstr("forged")));
  EXPECT_THAT(text, Not(HasSubstr("Transfer-Encoding")));
  head.has_body = true;
  EXPECT_THAT(ForwardedText(head, "", Function(), ""),
              HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
}

TEST(ForwardedTextTest, AnUpgradeIsPassedOnWhereItIsOne) {
  RequestHead head =
      Head({{"Host", "h"}, {"Connection", "keep-alive, Upgrade"}, {"Upgrade", "websocket"}});
  EXPECT_THAT(ForwardedText(head, "", Function(), ""),
              HasSubstr("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"));
  head.has_body = true;
  EXPECT_FALSE(AsksForUpgrade(head));
  head.has_body = false;
  head.version = 10;
  EXPECT_FALSE(AsksForUpgrade(head));
  EXPECT_THAT(ForwardedText(head, "", Function(), ""), Not(HasSubstr("Upgrade: websocket")));
  EXPECT_FALSE(AsksForUpgrade(Head({{"Upgrade", "websocket"}})));
}

TEST(PercentDecodedTest, LeavesAloneWhatIsNoTriple) {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},       {"%41%62", "Ab"}, {"%4", "%4"},   {"%", "%"},
      {"%zz", "%zz"}, {"a%2fb", "a/b"}, {"%00", "%00"}, {"%%41", "%A"}};
  for (const auto& [text, plain] : cases) EXPECT_EQ(PercentDecoded(text), plain) << text;
}

}  // namespace
}  // namespace brood
