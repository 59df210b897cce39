// SPDX-License-Identifier: Apache-2.0

#include "pool/http/fields.h"

#include <algorithm>
#include <cctype>
#include <set>

namespace brood {
namespace {

constexpr std::string_view kOfConnection[] = {"connection",
                                              "keep-alive",
                                              "proxy-authenticate",
                                              "proxy-authorization",
                                              "proxy-connection",
                                              "te",
                                              "trailer",
                                              "transfer-encoding",
                                              "upgrade"};

// Calls `take` with each item of the lists, parted by commas, of that name.
void ForEachToken(const Fields& fields, std::string_view name, const auto& take) {
  for (const auto& [each, value] : fields) {
    if (!EqualsIgnoringCase(each, name)) continue;
    std::string_view rest = value;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(','), rest.size());
      std::string_view item = rest.substr(0, end);
      while (item.starts_with(' ') || item.starts_with('\t')) item.remove_prefix(1);
      while (item.ends_with(' ') || item.ends_with('\t')) item.remove_suffix(1);
      take(item);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
}

bool IsOneOf(std::string_view name, const auto& names) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](std::string_view each) { return EqualsIgnoringCase(name, each); });
}

}  // namespace

std::string LowerCase(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::string_view FindField(const Fields& fields, std::string_view name) {
  for (const auto& [each, value] : fields) {
    if (EqualsIgnoringCase(each, name)) return value;
  }
  return {};
}

bool ListsToken(const Fields& fields, std::string_view name, std::string_view token) {
  bool found = false;
  ForEachToken(fields, name,
               [&](std::string_view item) { found |= EqualsIgnoringCase(item, token); });
  return found;
}

Fields EndToEnd(const Fields& fields) {
  std::set<std::string> named;
  ForEachToken(fields, "Connection", [&](std::string_view item) { named.insert(LowerCase(item)); });
  Fields out;
  for (const auto& field : fields) {
    if (IsOneOf(field.first, kOfConnection) || named.contains(LowerCase(field.first))) continue;
    out.push_back(field);
  }
  return out;
}

bool MaySetField(std::string_view name) {
  return !IsOneOf(name, kOfConnection) && !EqualsIgnoringCase(name, "content-length") &&
         !EqualsIgnoringCase(name.substr(0, 6), "brood-");
}

bool IsFieldValue(std::string_view value) {
  return std::none_of(value.begin(), value.end(),
                      [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool IsRequestTarget(std::string_view text) {
  return text.starts_with('/') && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return c > 0x20 && c < 0x7f && c != '#';
         });
}

}  // namespace brood
