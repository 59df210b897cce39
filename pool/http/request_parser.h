// SPDX-License-Identifier: Apache-2.0

// HTTP/1.1 requests out of bytes: Boost.Beast's parser, and the checks it leaves to its users.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "pool/http/fields.h"

namespace brood {

// What a request says before its body.
struct RequestHead {
  std::string method;
  std::string path;  // of the target, without query; as sent, nothing decoded
  std::string query;
  int version = 11;  // 10 or 11
  bool keep_alive = false;
  bool expects_continue = false;
  bool has_body = false;
  std::optional<std::uint64_t> content_length;
  Fields fields;
  // Not the parser's to know:
  std::string user;  // whose token it came with (tokens.h)
  std::string id;    // of the call that it makes
};

// One request. Not thread-safe. What is ambiguous, and so could be read in another way by a proxy
// (two lengths, a length beside chunks, a coding that is not plain "chunked", several hosts), is
// refused; so is what is too long.
class HttpParser {
 public:
  static constexpr std::size_t kMaxHead = 16384;   // bytes, request line and fields together
  static constexpr std::size_t kMaxTarget = 4096;  // bytes

  HttpParser();
  ~HttpParser();

  // Parses a prefix of `input` and returns its length; what is left has to be given again, with
  // more behind it. The request is bad once error() is set. Stops behind the head, and behind the
  // request's end: what follows belongs to the next one.
  std::size_t Parse(std::string_view input, std::string& body);

  bool has_head() const;  // head() may be used
  bool done() const;      // the whole request has been read
  const RequestHead& head() const;
  const Fields& trailers() const;  // behind a body in chunks; whole once done()
  // The status to refuse it with, and why; 0: all is well so far.
  int error() const;
  const std::string& why() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
