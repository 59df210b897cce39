// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/cgi_head.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

namespace brood {
namespace {

constexpr std::size_t kMaxCgiHead = 16384;

CgiHead BadHead(std::string_view why) {
  CgiHead head;
  head.error = why;
  return head;
}

}  // namespace

std::optional<CgiHead> ParseCgiHead(std::string_view output) {
  CgiHead head;
  bool has_status = false;
  bool redirects = false;
  for (;;) {
    const std::size_t end = output.find('\n', head.bytes);
    if (end == std::string_view::npos) {
      if (output.size() > kMaxCgiHead) return BadHead("its head is too long");
      return std::nullopt;
    }
    std::string_view line = output.substr(head.bytes, end - head.bytes);
    if (line.ends_with('\r')) line.remove_suffix(1);
    head.bytes = end + 1;
    if (line.empty()) {
      // A Location alone is a redirection (RFC 3875, 6.2.3).
      if (redirects && !has_status) head.status = 302;
      return head;
    }
    const std::size_t colon = line.find(':');
    std::string name(line.substr(0, colon));
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    if (colon == std::string_view::npos || !IsToken(name) || !IsFieldValue(value)) {
      return BadHead("a line of its head is not a header field");
    }
    if (EqualsIgnoringCase(name, "Status")) {
      has_status = true;
      int& code = head.status.code;
      const char* const end_of_line = value.data() + value.size();
      const auto [rest, error] = std::from_chars(value.data(), end_of_line, code);
      if (error != std::errc() || code < 200 || code > 599 ||
          (rest != end_of_line && *rest != ' ')) {
        return BadHead("its Status is not from 200 to 599");
      }
      head.status.reason = value.substr(
          std::min<std::size_t>(static_cast<std::size_t>(rest - value.data()) + 1, value.size()));
    } else if (MaySetField(name)) {
      redirects |= EqualsIgnoringCase(name, "Location");
      head.fields.emplace_back(std::move(name), value);
    }
  }
}

}  // namespace brood
