// SPDX-License-Identifier: Apache-2.0

// Fuzzes what callers of functions send: requests, one behind the other, in pieces of any size.
//
// The input is what comes over the socket, behind one byte that says in which pieces. With clang's
// libFuzzer this is an ordinary target. Elsewhere there is tests/fuzz/driver.cc.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pool/http/request_parser.h"

namespace brood {
namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "http_fuzz: broken: %s\n", what);
  std::abort();
}

struct Request {
  RequestHead head;
  std::string body;
  bool whole = false;

  bool operator==(const Request& other) const {
    return head.method == other.head.method && head.path == other.head.path &&
           head.query == other.head.query && head.version == other.head.version &&
           head.keep_alive == other.head.keep_alive &&
           head.expects_continue == other.head.expects_continue &&
           head.has_body == other.head.has_body &&
           head.content_length == other.head.content_length && body == other.body &&
           whole == other.whole;
  }
};

struct Taken {
  std::vector<Request> requests;  // whose heads were taken
  int error = 0;
};

void Check(const HttpParser& parser, const std::string& body) {
  const RequestHead& head = parser.head();
  Require(!head.method.empty(), "a head without a method");
  Require(head.path.size() + head.query.size() <= HttpParser::kMaxTarget, "a target too long");
  Require(head.path.find_first_of("? \r\n") == std::string::npos, "a path with more behind it");
  Require(head.version == 10 || head.version == 11, "a version not spoken here");
  if (!head.content_length) return;
  Require(body.size() <= *head.content_length, "a body longer than told");
  Require(!parser.done() || body.size() == *head.content_length, "a body shorter than told");
}

// As a connection does it.
Taken Receive(std::string_view stream, std::size_t piece) {
  Taken taken;
  std::string input;
  auto parser = std::make_unique<HttpParser>();
  bool has_head = false;
  while (!stream.empty()) {
    input += stream.substr(0, piece);
    stream.remove_prefix(std::min(piece, stream.size()));
    for (;;) {
      std::string body;
      const std::size_t used = parser->Parse(input, body);
      Require(used <= input.size(), "more was taken than there is");
      input.erase(0, used);
      if (parser->error() != 0) {
        Require(parser->error() >= 400 && !parser->why().empty(), "an error without its words");
        taken.error = parser->error();
        // How much of the body comes before the error depends on the pieces.
        if (has_head) taken.requests.back().body.clear();
        return taken;
      }
      Require(body.empty() || has_head, "a body before its head");
      if (!has_head && parser->has_head()) {
        has_head = true;
        taken.requests.push_back({parser->head(), "", false});
      }
      if (has_head) {
        taken.requests.back().body += body;
        Check(*parser, taken.requests.back().body);
        if (parser->done()) {
          taken.requests.back().whole = true;
          parser = std::make_unique<HttpParser>();
          has_head = false;
          if (!input.empty()) continue;
        }
      }
      if (used == 0) break;
    }
    Require(input.size() <= HttpParser::kMaxHead + piece, "more is kept than the longest line");
  }
  return taken;
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // With an end, behind which nothing is left open: a bad head may be waited for until it is whole.
  std::string stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  stream += "\r\n\r\n";
  // Pieces must not change what arrives; of two things that are wrong, either may be found first.
  const brood::Taken whole = brood::Receive(stream, 16'384);
  const brood::Taken pieces = brood::Receive(stream, std::size_t{1} + data[0]);
  // A line is too long when it has been waited for in vain; in large pieces, a bit more comes at
  // once.
  if (whole.error == 431 || pieces.error == 431) return 0;
  brood::Require(whole.requests == pieces.requests, "pieces arrive as other requests");
  brood::Require((whole.error == 0) == (pieces.error == 0), "pieces end in another way");
  return 0;
}
