// SPDX-License-Identifier: Apache-2.0

#include "pool/http/response_parser.h"

#include "pool/http/message.h"

namespace brood {

class HttpResponseParser::Impl : public HttpMessage<false> {
 public:
  explicit Impl(bool to_head) : HttpMessage(kMaxHead) {
    skip(to_head);
    head_.to_head = to_head;
  }

  ResponseHead head_;

 private:
  void on_request_impl(boost::beast::http::verb, View, View, int, ErrorCode&) override {}
  void on_response_impl(int status, View reason, int, ErrorCode&) override {
    head_.status = status;
    head_.reason.assign(reason.data(), reason.size());
  }
  void on_field_impl(boost::beast::http::field, View name, View value, ErrorCode&) override {
    if (head_done_) return;  // a trailer
    head_.fields.emplace_back(std::string(name.data(), name.size()),
                              std::string(value.data(), value.size()));
  }
  void on_header_impl(ErrorCode&) override {
    head_done_ = true;
    head_.keep_alive = keep_alive();
    if (const auto length = content_length()) head_.content_length = *length;
  }

  bool head_done_ = false;
};

HttpResponseParser::HttpResponseParser(bool to_head) : to_head_(to_head) { Begin(); }
HttpResponseParser::~HttpResponseParser() = default;

void HttpResponseParser::Begin() { impl_ = std::make_unique<Impl>(to_head_); }

std::size_t HttpResponseParser::Parse(std::string_view input, std::string& body) {
  std::size_t taken = 0;
  while (error_.empty() && !impl_->is_done() && input.size() - taken >= impl_->Least()) {
    const bool had_head = impl_->is_header_done();
    Impl::ErrorCode ec;
    const std::size_t used = impl_->Step(input.substr(taken), body, ec);
    taken += used;
    if (ec == boost::beast::http::error::need_more) {
      if (used == 0 && input.size() - taken > kMaxHead) error_ = "a line of it is too long";
      if (used == 0) break;
      continue;
    }
    if (ec) error_ = ec.message();
    if (had_head || !impl_->is_header_done()) continue;
    const int status = impl_->head_.status;
    if (status >= 200 || status == 101) break;
    Begin();
  }
  return taken;
}

void HttpResponseParser::OnEnd() {
  Impl::ErrorCode ec;
  if (impl_->is_done() || !error_.empty()) return;
  if (!impl_->is_header_done() || !impl_->need_eof()) {
    error_ = "it ends in its midst";
    return;
  }
  impl_->put_eof(ec);
  if (ec) error_ = ec.message();
}

bool HttpResponseParser::has_head() const { return error_.empty() && impl_->is_header_done(); }
bool HttpResponseParser::done() const { return error_.empty() && impl_->is_done(); }
const ResponseHead& HttpResponseParser::head() const { return impl_->head_; }
const std::string& HttpResponseParser::error() const { return error_; }

}  // namespace brood
