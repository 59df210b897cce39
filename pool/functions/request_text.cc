// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/request_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

namespace brood {
namespace {

constexpr std::string_view kPrefix = "/functions/";
constexpr std::string_view kUser = "X-Forwarded-User";  // by us, never by the caller

std::string Target(const RequestHead& head, std::string_view path) {
  return fmt::format("{}{}{}", path.empty() ? "/" : path, head.query.empty() ? "" : "?",
                     head.query);
}

// The name of a field's variable; none where two fields could have the same.
std::optional<std::string> VariableOf(std::string_view field) {
  std::string name = "HTTP_";
  for (const char c : field) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) == 0 && c != '-') return std::nullopt;
    name += c == '-' ? '_' : static_cast<char>(std::toupper(byte));
  }
  return name;
}

bool IsSecret(std::string_view field) {
  return EqualsIgnoringCase(field, "Authorization") ||
         EqualsIgnoringCase(field, "Proxy-Authorization");
}

// Some servers take "_" for "-".
bool IsSameVariable(std::string_view name, std::string_view ours) {
  std::string plain(name);
  std::replace(plain.begin(), plain.end(), '_', '-');
  return EqualsIgnoringCase(plain, ours);
}

// What parts this request from the next is never the caller's to say: who is named in Connection
// would be left out, and the body be a request of its own.
void PutFields(const RequestHead& head, std::string& out) {
  const std::string_view host = FindField(head.fields, "Host");
  if (!host.empty()) out += fmt::format("Host: {}\r\n", host);
  for (const auto& [name, value] : EndToEnd(head.fields)) {
    if (EqualsIgnoringCase(name, "Expect") || EqualsIgnoringCase(name, "Host") ||
        EqualsIgnoringCase(name, "Content-Length") || IsSameVariable(name, kUser)) {
      continue;
    }
    out += fmt::format("{}: {}\r\n", name, value);
  }
  if (head.content_length) out += fmt::format("Content-Length: {}\r\n", *head.content_length);
  if (!head.user.empty()) out += fmt::format("{}: {}\r\n", kUser, head.user);
}

}  // namespace

std::string PercentDecoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = i + 2 < text.size() && text[i] == '%' ? digit(text[i + 1]) : -1;
    const int low = high >= 0 ? digit(text[i + 2]) : -1;
    if (low < 0 || (high == 0 && low == 0)) {
      out += text[i];
    } else {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

bool AsksForUpgrade(const RequestHead& head) {
  return head.version == 11 && !head.has_body && ListsToken(head.fields, "Connection", "upgrade") &&
         !FindField(head.fields, "Upgrade").empty();
}

bool IsUserField(std::string_view name) { return IsSameVariable(name, kUser); }

bool IsChunked(const RequestHead& head) { return head.has_body && !head.content_length; }

std::vector<std::string> CgiEnvironment(const RequestHead& head, std::string_view path,
                                        const FunctionOptions& function, std::string_view peer) {
  std::map<std::string, std::string, std::less<>> variables;
  for (const auto& [field, value] : EndToEnd(head.fields)) {
    if (IsSecret(field) || EqualsIgnoringCase(field, "Proxy") || EqualsIgnoringCase(field, kUser) ||
        EqualsIgnoringCase(field, "Content-Type") || EqualsIgnoringCase(field, "Content-Length")) {
      continue;
    }
    const std::optional<std::string> name = VariableOf(field);
    if (!name) continue;
    const auto [at, is_new] = variables.emplace(*name, value);
    if (!is_new) at->second += (*name == "HTTP_COOKIE" ? "; " : ", ") + value;
  }
  const std::string_view host = FindField(head.fields, "Host");
  const std::size_t colon = host.ends_with(']') ? std::string_view::npos : host.rfind(':');
  variables["GATEWAY_INTERFACE"] = "CGI/1.1";
  variables["SERVER_SOFTWARE"] = "brood";
  variables["SERVER_PROTOCOL"] = head.version == 10 ? "HTTP/1.0" : "HTTP/1.1";
  variables["SERVER_NAME"] = std::string(host.substr(0, colon));
  variables["SERVER_PORT"] =
      colon == std::string_view::npos ? "80" : std::string(host.substr(colon + 1));
  variables["REQUEST_METHOD"] = head.method;
  const std::string script = std::string(kPrefix) + function.name;
  variables["SCRIPT_NAME"] = script;
  variables["REQUEST_URI"] =
      fmt::format("{}{}{}{}", script, path, head.query.empty() ? "" : "?", head.query);
  variables["PATH_INFO"] = PercentDecoded(path);
  variables["QUERY_STRING"] = head.query;
  if (!peer.empty()) variables["REMOTE_ADDR"] = variables["REMOTE_HOST"] = std::string(peer);
  if (!head.user.empty()) {
    variables["AUTH_TYPE"] = "Bearer";
    variables["REMOTE_USER"] = head.user;
  }
  if (const auto type = FindField(head.fields, "Content-Type"); !type.empty()) {
    variables["CONTENT_TYPE"] = std::string(type);
  }
  if (head.has_body && head.content_length) {
    variables["CONTENT_LENGTH"] = fmt::to_string(*head.content_length);
  }
  for (const std::string& own : function.command.env) variables.erase(own.substr(0, own.find('=')));
  std::vector<std::string> out;
  out.reserve(variables.size());
  for (const auto& [name, value] : variables) out.push_back(fmt::format("{}={}", name, value));
  return out;
}

std::string RequestText(const RequestHead& head, std::string_view path) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\n", head.method, Target(head, path));
  PutFields(head, out);
  return out + "\r\n";
}

std::string ForwardedText(const RequestHead& head, std::string_view path,
                          const FunctionOptions& function, std::string_view peer) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\n", head.method, Target(head, path));
  RequestHead passed = head;
  std::string from;
  std::erase_if(passed.fields, [&](const auto& field) {
    const bool is_from = EqualsIgnoringCase(field.first, "X-Forwarded-For");
    if (is_from) from += (from.empty() ? "" : ", ") + field.second;
    return is_from || IsSameVariable(field.first, "X-Forwarded-Prefix");
  });
  PutFields(passed, out);
  if (FindField(head.fields, "Host").empty()) {
    out += fmt::format("Host: 127.0.0.1:{}\r\n", function.port);
  }
  if (!peer.empty()) from += fmt::format("{}{}", from.empty() ? "" : ", ", peer);
  if (!from.empty()) out += fmt::format("X-Forwarded-For: {}\r\n", from);
  if (FindField(head.fields, "X-Forwarded-Proto").empty()) out += "X-Forwarded-Proto: http\r\n";
  out += fmt::format("X-Forwarded-Prefix: {}{}\r\n", kPrefix, function.name);
  if (IsChunked(head)) out += "Transfer-Encoding: chunked\r\n";
  if (AsksForUpgrade(head)) {
    out += fmt::format("Connection: Upgrade\r\nUpgrade: {}\r\n", FindField(head.fields, "Upgrade"));
  }
  return out + "\r\n";
}

}  // namespace brood
