// SPDX-License-Identifier: Apache-2.0

// Boost.Beast's parser of HTTP/1 messages, as ours of requests and of answers use it: fed with
// pieces of any length, its body put into a string. For those two files alone.
#pragma once

// The library's headers trip over our warnings, not we.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <boost/beast/http/basic_parser.hpp>
#pragma GCC diagnostic pop

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>

namespace brood {

template <bool kRequest>
class HttpMessage : public boost::beast::http::basic_parser<kRequest> {
 public:
  using ErrorCode = boost::beast::error_code;
  using View = boost::beast::string_view;
  using Base = boost::beast::http::basic_parser<kRequest>;

  explicit HttpMessage(std::uint32_t max_head) {
    this->header_limit(max_head);
    // Whoever uses it has its own. (boost::none would be less than any length in 1.74.)
    this->body_limit(std::numeric_limits<std::uint64_t>::max());
  }

  // One step: the head, a piece of the body, a chunk's header. Returns the bytes taken; none, and
  // http::error::need_more, where more is needed. What there is of the body is added to `body`.
  std::size_t Step(std::string_view input, std::string& body, ErrorCode& ec) {
    body_ = &body;
    ec = {};
    return this->put(boost::asio::const_buffer(input.data(), input.size()), ec);
  }

  // The fewest bytes to take a step with. The library, shown less of a last chunk than its shortest
  // form, would fail an assertion when it is shown a bit more. Nothing that ends properly is
  // shorter from here.
  std::size_t Least() const {
    return this->is_header_done() && this->chunked() && chunk_left_ == 0 ? std::strlen("0\r\n\r\n")
                                                                         : 1;
  }

 private:
  void on_body_init_impl(boost::optional<std::uint64_t> const&, ErrorCode&) override {}
  std::size_t on_body_impl(View piece, ErrorCode&) override {
    body_->append(piece.data(), piece.size());
    return piece.size();
  }
  void on_chunk_header_impl(std::uint64_t size, View, ErrorCode&) override { chunk_left_ = size; }
  std::size_t on_chunk_body_impl(std::uint64_t, View piece, ErrorCode&) override {
    chunk_left_ -= piece.size();
    body_->append(piece.data(), piece.size());
    return piece.size();
  }
  void on_finish_impl(ErrorCode&) override {}

  std::string* body_ = nullptr;
  std::uint64_t chunk_left_ = 0;
};

}  // namespace brood
