// SPDX-License-Identifier: Apache-2.0

#include "pool/http/request_parser.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "pool/http/message.h"

namespace brood {
namespace {

namespace http = boost::beast::http;

// A name or address, and a port (RFC 3986, 3.2): what else it could hold, proxies read differently.
bool MayBeHost(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("-._~%!$&'()*+,;=:[]").find(static_cast<char>(c)) !=
               std::string_view::npos;
  });
}

// A field that goes on in the next line, which some join and others do not (RFC 9112, 5.2). `lines`
// begins where a line does.
bool HasFold(std::string_view lines) {
  return lines.starts_with(' ') || lines.starts_with('\t') ||
         lines.find("\n ") != std::string_view::npos ||
         lines.find("\n\t") != std::string_view::npos;
}

// A request line of three words, the last a version: bad is that version, and nothing else.
bool AsksForAnotherVersion(std::string_view input) {
  const std::string_view line = input.substr(0, input.find("\r\n"));
  const std::size_t last = line.rfind(' ');
  if (std::count(line.begin(), line.end(), ' ') != 2) return false;
  const std::string_view version = line.substr(last + 1);
  const auto digit = [&](std::size_t at) { return version[at] >= '0' && version[at] <= '9'; };
  return version.size() == 8 && version.starts_with("HTTP/") && digit(5) && version[6] == '.' &&
         digit(7);
}

}  // namespace

class HttpParser::Impl : public HttpMessage<true> {
 public:
  Impl() : HttpMessage(kMaxHead) {}

  RequestHead head_;
  Fields trailers_;
  int error_ = 0;
  std::string why_;
  std::size_t head_bytes_ = 0;

  void Refuse(int status, std::string why) {
    if (error_ != 0) return;
    error_ = status;
    why_ = std::move(why);
  }

 private:
  void on_request_impl(http::verb, View method, View target, int version, ErrorCode& ec) override {
    head_.method.assign(method.data(), method.size());
    head_.version = version;
    std::string_view path(target.data(), target.size());
    if (path.size() > kMaxTarget) Refuse(414, "the target is too long");
    // The absolute form, which proxies may send (RFC 9112, 3.2.2).
    for (const std::string_view scheme : {"http://", "https://"}) {
      if (!EqualsIgnoringCase(path.substr(0, scheme.size()), scheme)) continue;
      path.remove_prefix(std::min(path.find_first_of("/?", scheme.size()), path.size()));
      break;
    }
    const std::size_t question = path.find('?');
    head_.path = path.substr(0, question);
    if (head_.path.empty()) head_.path = "/";
    if (question != std::string_view::npos) head_.query = path.substr(question + 1);
    if (error_ != 0) ec = http::error::bad_target;
  }

  void on_response_impl(int, View, int, ErrorCode&) override {}

  void on_field_impl(http::field name, View word, View value, ErrorCode& ec) override {
    const std::string_view text(value.data(), value.size());
    (head_done_ ? trailers_ : head_.fields)
        .emplace_back(std::string(word.data(), word.size()), text);
    if (head_done_) return;  // a trailer's field decides nothing here
    switch (name) {
      case http::field::host:
        ++hosts_;
        if (!MayBeHost(text)) Refuse(400, "the Host field is not a host");
        break;
      case http::field::content_length:
        ++lengths_;
        if (text.find_first_not_of("0123456789") != std::string_view::npos) {
          Refuse(400, "the body's length is not a number");
        }
        break;
      case http::field::transfer_encoding:
        ++codings_;
        if (!EqualsIgnoringCase(text, "chunked")) Refuse(501, "the only coding known is chunked");
        break;
      case http::field::expect:
        if (EqualsIgnoringCase(text, "100-continue")) {
          head_.expects_continue = true;
        } else {
          Refuse(417, "the only expectation known is 100-continue");
        }
        break;
      default:
        break;
    }
    if (lengths_ > 1 || codings_ > 1 || (lengths_ == 1 && codings_ == 1)) {
      Refuse(400, "the body's length is given in more than one way");
    }
    if (error_ != 0) ec = http::error::bad_field;
  }

  void on_header_impl(ErrorCode& ec) override {
    head_done_ = true;
    if (hosts_ > 1 || (hosts_ == 0 && head_.version == 11))
      Refuse(400, "exactly one Host field is needed");
    if (codings_ > 0 && head_.version == 10) Refuse(400, "HTTP/1.0 has no chunks");
    if (error_ != 0) ec = http::error::bad_field;
    head_.keep_alive = keep_alive();
    const auto length = content_length();
    if (length) head_.content_length = *length;
    head_.has_body = chunked() || (length && *length > 0);
  }

  bool head_done_ = false;
  int hosts_ = 0;
  int lengths_ = 0;
  int codings_ = 0;
};

HttpParser::HttpParser() : impl_(std::make_unique<Impl>()) {}
HttpParser::~HttpParser() = default;

std::size_t HttpParser::Parse(std::string_view input, std::string& body) {
  std::size_t taken = 0;
  // Some callers end a body with an empty line that belongs to nothing (RFC 9112, 2.2).
  if (impl_->head_bytes_ == 0) {
    if (input == "\r") return 0;
    if (input.starts_with("\r\n")) taken = impl_->head_bytes_ = std::strlen("\r\n");
  }
  while (impl_->error_ == 0 && !impl_->is_done() && input.size() - taken >= impl_->Least()) {
    const bool had_head = impl_->is_header_done();
    Impl::ErrorCode ec;
    const std::size_t used = impl_->Step(input.substr(taken), body, ec);
    if (!had_head && HasFold(input.substr(taken, used))) {
      impl_->Refuse(400, "a field goes on in the next line");
    }
    taken += used;
    // The library's own limit is for one call of it.
    if (!had_head) impl_->head_bytes_ += used;
    if (impl_->head_bytes_ > kMaxHead) impl_->Refuse(431, "the head is too long");
    if (ec == http::error::need_more) {
      // Not one step within so much: a chunk's extensions or trailers without end.
      if (used == 0 && input.size() - taken > kMaxHead) impl_->Refuse(431, "a line is too long");
      if (used == 0) break;
      continue;
    }
    if (ec == http::error::header_limit) impl_->Refuse(431, "the head is too long");
    if (ec == http::error::bad_version && AsksForAnotherVersion(input.substr(taken))) {
      impl_->Refuse(505, "only HTTP/1.0 and HTTP/1.1 are supported");
    }
    if (ec) impl_->Refuse(400, ec.message());
    if (!had_head && impl_->is_header_done()) break;
  }
  return taken;
}

bool HttpParser::has_head() const { return impl_->error_ == 0 && impl_->is_header_done(); }
bool HttpParser::done() const { return impl_->error_ == 0 && impl_->is_done(); }
const RequestHead& HttpParser::head() const { return impl_->head_; }
int HttpParser::error() const { return impl_->error_; }
const Fields& HttpParser::trailers() const { return impl_->trailers_; }
const std::string& HttpParser::why() const { return impl_->why_; }

}  // namespace brood
