// SPDX-License-Identifier: Apache-2.0

// Answers of servers, in pieces of any length.
#include "pool/http/response_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace brood {
namespace {

struct Parsed {
  int status = 0;
  std::string body;
  bool done = false;
  bool keep_alive = false;
  std::string error;
  std::size_t left = 0;  // bytes of the input behind it
};

Parsed Parse(std::string_view text, std::size_t piece, bool to_head, bool ends) {
  HttpResponseParser parser(to_head);
  Parsed out;
  std::string input;
  for (std::size_t at = 0; at < text.size(); at += piece) {
    input += text.substr(at, piece);
    for (std::size_t taken = 1; taken != 0 && !parser.done() && parser.error().empty();) {
      taken = parser.Parse(input, out.body);
      input.erase(0, taken);
    }
  }
  if (ends) parser.OnEnd();
  out.done = parser.done();
  out.error = parser.error();
  out.left = input.size();
  if (parser.has_head()) {
    out.status = parser.head().status;
    out.keep_alive = parser.head().keep_alive;
  }
  return out;
}

struct ResponseCase {
  const char* name;
  std::string text;
  int status;
  std::string body;
  bool done;
  bool keep_alive = true;
  bool to_head = false;
  bool ends = false;
  bool bad = false;
};

TEST(HttpResponseTest, WhateverItsLengthIsToldBy) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  const ResponseCase cases[] = {
      {"length", ok + "Content-Length: 3\r\n\r\nabc", 200, "abc", true},
      {"chunks",
       ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n", 200,
       "abcde", true},
      {"no_reason", "HTTP/1.1 204 \r\n\r\n", 204, "", true},
      {"its_end", "HTTP/1.1 200 OK\r\n\r\nall there is", 200, "all there is", true, false, false,
       true},
      {"its_end_of_1.0", "HTTP/1.0 200 OK\r\n\r\nall", 200, "all", true, false, false, true},
      {"not_modified", "HTTP/1.1 304 X\r\nContent-Length: 10\r\n\r\n", 304, "", true},
      {"to_head", ok + "Content-Length: 10\r\n\r\n", 200, "", true, true, true},
      {"hints_before",
       "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok +
           "Content-Length: 1\r\n\r\n!",
       200, "!", true},
      {"upgrade", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", 101, "", true, true},
      {"close", ok + "Connection: close\r\nContent-Length: 0\r\n\r\n", 200, "", true, false},
      {"half", ok + "Content-Length: 3\r\n\r\nab", 200, "ab", false, true, false, true, true},
      {"half_a_head", "HTTP/1.1 200 OK\r\nContent-", 0, "", false, false, false, true, true},
      {"junk", "SSH-2.0-OpenSSH\r\n\r\n", 0, "", false, false, false, false, true},
      {"two_lengths", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 0, "", false, false,
       false, false, true},
      {"bad_chunk", ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 0, "", false, false, false,
       false, true},
  };
  for (const ResponseCase& each : cases) {
    for (const std::size_t piece :
         {std::size_t{1}, std::size_t{3}, std::size_t{7}, each.text.size()}) {
      const Parsed got = Parse(each.text, piece, each.to_head, each.ends);
      EXPECT_EQ(got.error.empty(), !each.bad) << each.name << " " << piece << " " << got.error;
      EXPECT_EQ(got.done, each.done) << each.name << " " << piece;
      if (each.bad) continue;
      EXPECT_EQ(got.status, each.status) << each.name << " " << piece;
      EXPECT_EQ(got.body, each.body) << each.name << " " << piece;
      EXPECT_EQ(got.keep_alive, each.keep_alive) << each.name << " " << piece;
    }
  }
}

TEST(HttpResponseTest, WhatComesBehindItIsLeft) {
  EXPECT_EQ(Parse("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!more", 100, false, false).left, 4U);
}

TEST(HttpResponseTest, AHeadWithoutEndIsBad) {
  std::string text = "HTTP/1.1 200 OK\r\n";
  while (text.size() < 2 * HttpResponseParser::kMaxHead)
    text += "X-A: " + std::string(1000, 'a') + "\r\n";
  EXPECT_NE(Parse(text, 4096, false, false).error, "");
  const std::string line = "HTTP/1.1 200 " + std::string(3 * HttpResponseParser::kMaxHead, 'x');
  EXPECT_NE(Parse(line, 4096, false, false).error, "");
}

}  // namespace
}  // namespace brood
