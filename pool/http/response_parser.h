// SPDX-License-Identifier: Apache-2.0

// HTTP/1.1 answers out of bytes, as a function that is a server gives them: Boost.Beast's parser.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "pool/http/request_parser.h"

namespace brood {

// What an answer says before its body.
struct ResponseHead {
  int status = 0;
  std::string reason;  // as it was sent; may be empty
  Fields fields;
  bool to_head = false;     // it answers a HEAD
  bool keep_alive = false;  // another request may follow over the connection
  // Of its body; none: it has none, or it tells its end as it comes.
  std::optional<std::uint64_t> content_length;
};

// One answer. Not thread-safe. 1xx answers that come before it are passed over, but for 101.
class HttpResponseParser {
 public:
  static constexpr std::size_t kMaxHead = 65536;  // bytes, of the status line and fields together

  // `to_head`: it answers a HEAD request, so it has no body whatever its fields say.
  explicit HttpResponseParser(bool to_head);
  ~HttpResponseParser();

  // Parses a prefix of `input` and returns its length; what is left has to be given again, with
  // more behind it. Stops behind the head, and behind the answer's end.
  std::size_t Parse(std::string_view input, std::string& body);
  // Nothing more will come. It is whole then, if its end is that of its connection.
  void OnEnd();

  bool has_head() const;
  bool done() const;  // all of it has been read
  const ResponseHead& head() const;
  // Why it is no answer; empty: all is well so far.
  const std::string& error() const;

 private:
  class Impl;
  void Begin();

  const bool to_head_;
  std::string error_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
