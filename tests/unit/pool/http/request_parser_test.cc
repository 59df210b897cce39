// SPDX-License-Identifier: Apache-2.0

// Requests out of bytes: what is taken, what is refused with which status, and that neither depends
// on the pieces in which they arrive.
#include "pool/http/request_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace brood {
namespace {

// NOLINTNEXTLINE(misc-unused-using-decls): clang-tidy does not see that a literal uses it
using std::string_literals::operator""s;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kPost = "POST /functions/echo HTTP/1.1\r\nHost: x\r\n";

struct Taken {
  RequestHead head;
  std::string body;
  bool has_head = false;
  bool done = false;
  int error = 0;
  std::string why;
  std::size_t used = 0;  // bytes
  Fields trailers;
};

// One request of `stream`, which arrives in pieces of so many bytes.
Taken Take(std::string_view stream, std::size_t piece) {
  HttpParser parser;
  Taken taken;
  std::string input;
  while (!stream.empty() && parser.error() == 0 && !parser.done()) {
    input += stream.substr(0, piece);
    stream.remove_prefix(std::min(piece, stream.size()));
    std::size_t used = 0;
    do {
      used = parser.Parse(input, taken.body);
      input.erase(0, used);
      taken.used += used;
    } while (used > 0 && parser.error() == 0 && !parser.done());
  }
  taken.has_head = parser.has_head();
  taken.head = parser.head();
  taken.done = parser.done();
  taken.error = parser.error();
  taken.why = parser.why();
  taken.trailers = parser.trailers();
  return taken;
}

const std::vector<std::size_t> kPieces = {1, 2, 3, 7, 64, 1 << 20};

std::string With(std::string_view head, std::string_view rest) {
  return std::string(head) + std::string(rest);
}

TEST(HttpParserTest, FieldsAreKeptAsTheyWereSent) {
  const std::string request =
      With(kPost,
           "X-A:  one \r\nx-a: two\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
           "X-Late: three\r\nHost: y\r\n\r\n");
  for (const std::size_t piece : kPieces) {
    const Taken taken = Take(request, piece);
    ASSERT_TRUE(taken.done) << taken.why;
    EXPECT_EQ(FindField(taken.head.fields, "x-A"), "one");
    EXPECT_EQ(FindField(taken.head.fields, "host"), "x");
    EXPECT_EQ(FindField(taken.head.fields, "x"), "");
    EXPECT_EQ(FindField(taken.head.fields, "x-late"), "");
    EXPECT_EQ(taken.head.fields.size(), 4U);
    EXPECT_EQ(FindField(taken.trailers, "x-late"), "three");
    EXPECT_EQ(taken.trailers.size(), 2U);
  }
}

struct Good {
  std::string request;
  std::string_view method, path, query, body;
  int version = 11;
  bool keep_alive = true;
};

TEST(HttpParserTest, WhatIsWellFormedIsTaken) {
  const std::vector<Good> cases = {
      {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/healthz", "", ""},
      {"HEAD / HTTP/1.1\r\nhOST:x\r\n\r\n", "HEAD", "/", "", ""},
      {"GET /a?b=1&c HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a", "b=1&c", ""},
      {"GET /a?b?c HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a", "b?c", ""},
      {"GET /%41%2f.. HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/%41%2f..", "", ""},
      {"GET http://host:8/a?b HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a", "b", ""},
      {"GET http://host HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/", "", ""},
      {"GET http://host?a=/b HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/", "a=/b", ""},
      {"GET HTTP://host/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a", "", ""},
      {"GET https://host/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a", "", ""},
      {"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a", "", ""},
      {"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "/a", "", ""},
      {"GET /a HTTP/1.1\r\nHost:\r\n\r\n", "GET", "/a", "", ""},
      {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS", "*", "", ""},
      {"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", "BREW", "/pot", "", ""},
      {"GET / HTTP/1.0\r\n\r\n", "GET", "/", "", "", 10, false},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET", "/", "", "", 10, true},
      {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET", "/", "", "", 11, false},
      {With(kPost, "Content-Length: 0\r\n\r\n"), "POST", "/functions/echo", "", ""},
      {With(kPost, "Content-Length: 5\r\n\r\nhello"), "POST", "/functions/echo", "", "hello"},
      {With(kPost, "Content-Length: 2\r\n\r\n\r\n"), "POST", "/functions/echo", "", "\r\n"},
      {With(kPost, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "POST", "/functions/echo", "",
       ""},
      {With(kPost,
            "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A\r\n, my world\r\n0\r\n\r\n"),
       "POST", "/functions/echo", "", "hello, my world"},
      {With(kPost, "Transfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\nx\r\n0\r\nA: b\r\n\r\n"), "POST",
       "/functions/echo", "", "x"},
  };
  for (const Good& each : cases) {
    for (const std::size_t piece : kPieces) {
      const Taken taken = Take(each.request, piece);
      const std::string where = each.request + " in pieces of " + std::to_string(piece);
      EXPECT_EQ(taken.error, 0) << where << taken.why;
      EXPECT_TRUE(taken.has_head && taken.done) << where;
      EXPECT_EQ(taken.head.method, each.method) << where;
      EXPECT_EQ(taken.head.path, each.path) << where;
      EXPECT_EQ(taken.head.query, each.query) << where;
      EXPECT_EQ(taken.head.version, each.version) << where;
      EXPECT_EQ(taken.head.keep_alive, each.keep_alive) << where;
      EXPECT_EQ(taken.body, each.body) << where;
      EXPECT_EQ(taken.used, each.request.size()) << where;
    }
  }
}

struct Bad {
  std::string request;
  int status;
  std::string_view why;
};

TEST(HttpParserTest, WhatIsWrongIsRefusedWithItsStatus) {
  const std::string chunks = "Transfer-Encoding: chunked\r\n\r\n";
  const std::vector<Bad> cases = {
      {"GET / HTTP/1.1\r\n\r\n", 400, "Host"},
      {"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, "Host"},
      {"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400, "Host"},
      {"GET / HTTP/1.1\r\nHost: x y\r\n\r\n", 400, "Host"},
      {"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400, "Host"},
      {"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n", 400, ""},
      {With(kPost, "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), 400, ""},
      {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "HTTP/1.1"},
      {"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505, "HTTP/1.1"},
      {"GET / HTTP/1\r\nHost: x\r\n\r\n", 400, ""},
      {"GET / HTTP/a.b\r\nHost: x\r\n\r\n", 400, ""},
      {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"GET /\r\n\r\n", 400, ""},
      {" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\nHost: x\n\n\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\nHost: x\r\nA b\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400, ""},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: \0b\r\n\r\n"s, 400, ""},
      {"\x16\x03\x01\x02\x01\r\n\r\n", 400, ""},
      {With(kPost, "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), 400, ""},
      {With(kPost, "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), 400, ""},
      {With(kPost, "Content-Length: 3\r\n" + chunks + "0\r\n\r\n"), 400, ""},
      {With(kPost, "Content-Length: +3\r\n\r\nabc"), 400, ""},
      {With(kPost, "Content-Length: 3, 3\r\n\r\nabc"), 400, ""},
      {With(kPost, "Content-Length: 0x3\r\n\r\nabc"), 400, ""},
      {With(kPost, "Content-Length:\r\n\r\n"), 400, ""},
      {With(kPost, "Content-Length: 18446744073709551616\r\n\r\n"), 400, ""},
      {With(kPost, "Transfer-Encoding: gzip\r\n\r\n"), 501, "chunked"},
      {With(kPost, "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501, "chunked"},
      {With(kPost, "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), 501, "chunked"},
      {"POST / HTTP/1.0\r\n" + chunks + "0\r\n\r\n", 400, "HTTP/1.0"},
      {With(kPost, chunks + "x\r\n\r\n"), 400, ""},
      {With(kPost, chunks + "-1\r\n\r\n"), 400, ""},
      {With(kPost, chunks + "10000000000000000\r\n"), 400, ""},
      {With(kPost, chunks + "3\r\nabcX\r\n\r\n"), 400, ""},
      {With(kPost, chunks + "3\nabc\n0\n\n\r\n\r\n"), 400, ""},
      {With(kPost, chunks + "1\r\nx\r\n0\r\nContent-Length: 9\r\n\r\n"), 400, ""},
      {With(kPost, "Expect: wonders\r\n\r\n"), 417, "100-continue"},
      {"GET /" + std::string(HttpParser::kMaxTarget, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414,
       "target"},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(HttpParser::kMaxHead, 'x') + "\r\n\r\n",
       431, "head"},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(2 * HttpParser::kMaxHead, 'x'), 431, ""},
  };
  for (const Bad& each : cases) {
    for (const std::size_t piece : kPieces) {
      const Taken taken = Take(each.request, piece);
      const std::string where =
          each.request.substr(0, 200) + " in pieces of " + std::to_string(piece);
      EXPECT_EQ(taken.error, each.status) << where;
      EXPECT_THAT(taken.why, HasSubstr(std::string(each.why))) << where;
      EXPECT_FALSE(taken.why.empty() || taken.done || taken.has_head) << where;
    }
  }
}

TEST(HttpParserTest, WhatIsCutIsNeitherDoneNorWrong) {
  const std::string whole = With(kPost, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Taken taken = Take(whole.substr(0, size), 5);
    EXPECT_EQ(taken.error, 0) << size << taken.why;
    EXPECT_FALSE(taken.done) << size;
    EXPECT_EQ(taken.has_head, size >= whole.find("3\r\nabc")) << size;
  }
}

TEST(HttpParserTest, TheHeadEndsAStep) {
  HttpParser parser;
  std::string body;
  const std::string request = With(kPost, "Content-Length: 3\r\n\r\nabc");
  EXPECT_EQ(parser.Parse(request, body), request.size() - 3);
  EXPECT_TRUE(parser.has_head());
  EXPECT_FALSE(parser.done());
  EXPECT_EQ(body, "");
  EXPECT_EQ(parser.Parse("abc", body), 3U);
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(body, "abc");
}

TEST(HttpParserTest, WhatComesBehindIsLeft) {
  std::string stream =
      With(kPost, "Content-Length: 2\r\n\r\n01") + "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
  std::vector<std::string> paths;
  while (!stream.empty()) {
    const Taken taken = Take(stream, 1 << 20);
    ASSERT_TRUE(taken.done) << stream;
    paths.push_back(taken.head.path);
    stream.erase(0, taken.used);
  }
  EXPECT_THAT(paths, ElementsAre("/functions/echo", "/next"));
}

TEST(HttpParserTest, ABodyIsAnnounced) {
  const auto head = [](std::string_view fields) {
    return Take(With(kPost, With(fields, "\r\n")), 1 << 20).head;
  };
  EXPECT_FALSE(head("").has_body);
  EXPECT_FALSE(head("").content_length);
  EXPECT_FALSE(head("Content-Length: 0\r\n").has_body);
  EXPECT_EQ(head("Content-Length: 0\r\n").content_length, 0U);
  EXPECT_TRUE(head("Content-Length: 9\r\n").has_body);
  EXPECT_EQ(head("Content-Length: 9\r\n").content_length, 9U);
  EXPECT_TRUE(head("Transfer-Encoding: chunked\r\n").has_body);
  EXPECT_FALSE(head("Transfer-Encoding: chunked\r\n").content_length);
  EXPECT_FALSE(head("").expects_continue);
  EXPECT_TRUE(head("Expect: 100-Continue\r\n").expects_continue);
}

TEST(HttpParserTest, HeadsWithinTheLimitsAreTaken) {
  EXPECT_TRUE(
      Take("GET /" + std::string(HttpParser::kMaxTarget - 1, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n",
           100)
          .done);
  EXPECT_TRUE(Take("GET / HTTP/1.1\r\nHost: x\r\nA: " +
                       std::string(HttpParser::kMaxHead - 100, 'x') + "\r\n\r\n",
                   100)
                  .done);
}

}  // namespace
}  // namespace brood
