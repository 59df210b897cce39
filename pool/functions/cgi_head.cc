// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/cgi_head.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <system_error>
#include <utility>

namespace brood {
namespace {

constexpr std::size_t kMaxCgiHead = 16384;

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool IsClean(std::string_view value) {
  return std::none_of(value.begin(), value.end(),
                      [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

// A function may not set what belongs to the connection, nor pass itself off as us.
bool MaySet(std::string name) {
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const std::string_view own :
       {"connection", "content-length", "transfer-encoding", "trailer", "upgrade", "keep-alive"}) {
    if (name == own) return false;
  }
  return !name.starts_with("brood-");
}

CgiHead BadHead(std::string_view why) {
  CgiHead head;
  head.error = why;
  return head;
}

}  // namespace

std::optional<CgiHead> ParseCgiHead(std::string_view output) {
  CgiHead head;
  for (;;) {
    const std::size_t end = output.find('\n', head.bytes);
    if (end == std::string_view::npos) {
      if (output.size() > kMaxCgiHead) return BadHead("its head is too long");
      return std::nullopt;
    }
    std::string_view line = output.substr(head.bytes, end - head.bytes);
    if (line.ends_with('\r')) line.remove_suffix(1);
    head.bytes = end + 1;
    if (line.empty()) return head;
    const std::size_t colon = line.find(':');
    std::string name(line.substr(0, colon));
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    if (colon == std::string_view::npos || !IsToken(name) || !IsClean(value)) {
      return BadHead("a line of its head is not a header field");
    }
    if (name == "Status" || name == "status") {
      int& status = head.status;
      const auto [rest, error] = std::from_chars(value.data(), value.data() + value.size(), status);
      // 1xx, 204 and 304 have no body, which is not the function's to decide here.
      if (error != std::errc() || status < 200 || status > 599 || status == 204 || status == 304) {
        return BadHead("its Status is not from 200 to 599, or allows no body");
      }
    } else if (MaySet(name)) {
      head.fields.emplace_back(std::move(name), value);
    }
  }
}

}  // namespace brood
