// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/token_file.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <set>
#include <utility>
#include <vector>

// The library's header trips over our warnings, not we.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include "pool/cli/private_file.h"
#include "pool/http/fields.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::size_t kLeastSecret = 16;  // bytes; shorter ones can be guessed
constexpr std::size_t kMostTokenFile = 4U << 20;

// Letters, digits and what else RFC 6750, 2.1 lets a token be made of.
bool IsSecret(std::string_view text) {
  return text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
             "-._~+/=") == std::string_view::npos;
}

std::int64_t SecondsOf(const toml::date_time& time) {
  using namespace std::chrono;
  const sys_days day = year(time.date.year) / month(time.date.month) / unsigned{time.date.day};
  const auto clock = hours(time.time.hour) + minutes(time.time.minute) + seconds(time.time.second);
  return duration_cast<seconds>((day + clock).time_since_epoch()).count() -
         60 * time.offset->minutes;
}

absl::Status TakeTokenKey(std::string_view key, const toml::node& value, Token& token) {
  if (key == "secret") {
    const auto text = value.value_exact<std::string>();
    if (!text || text->size() < kLeastSecret || !IsSecret(*text)) {
      return InvalidError(
          "secret is a string of {} or more letters, digits and -._~+/=, as `openssl rand -hex 32` "
          "prints",
          kLeastSecret);
    }
    token.secret = *text;
  } else if (key == "functions") {
    const toml::array* const array = value.as_array();
    if (array == nullptr) return InvalidError("functions is an array of names, or [\"*\"]");
    for (const toml::node& each : *array) {
      const auto name = each.value_exact<std::string>();
      if (!name) return InvalidError("functions is an array of names, or [\"*\"]");
      token.functions.push_back(*name);
    }
  } else if (key == "admin") {
    const auto admin = value.value_exact<bool>();
    if (!admin) return InvalidError("admin is true or false");
    token.admin = *admin;
  } else if (key == "expires") {
    const auto time = value.value_exact<toml::date_time>();
    if (!time || !time->offset) {
      return InvalidError("expires is a time with its offset, as 2030-01-31T00:00:00Z");
    }
    token.expires = SecondsOf(*time);
  } else {
    return InvalidError("there is no key {}; there are secret, functions, admin and expires", key);
  }
  return absl::OkStatus();
}

absl::StatusOr<Token> ParseToken(std::string_view name, const toml::node& node,
                                 toml::source_position& line) {
  Token token;
  token.name = name;
  const toml::table* const table = node.as_table();
  if (table == nullptr) return InvalidError("a token is a table: [token.{}]", name);
  for (const auto& [key, value] : *table) {
    const absl::Status taken = TakeTokenKey(key.str(), value, token);
    if (taken.ok()) continue;
    line = key.source().begin;
    return taken;
  }
  if (!IsToken(name)) return InvalidError("its name is not made of letters, digits and -._");
  if (token.secret.empty()) return InvalidError("it has no secret");
  if (token.functions.empty() && !token.admin) {
    return InvalidError("it allows nothing: name functions, or say admin = true");
  }
  return token;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokens>> ParseTokens(std::string_view text,
                                                          const std::string& file) {
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return InvalidError("{}, line {}: {}", file, error.source().begin.line, error.description());
  }
  std::vector<Token> tokens;
  std::set<std::string> secrets;
  for (const auto& [key, value] : root) {
    if (key.str() != "token" || value.as_table() == nullptr) {
      return InvalidError("{}, line {}: the file has tables [token.NAME] alone", file,
                          key.source().begin.line);
    }
    for (const auto& [name, node] : *value.as_table()) {
      toml::source_position line = name.source().begin;
      absl::StatusOr<Token> token = ParseToken(name.str(), node, line);
      if (token.ok() && !secrets.insert(token->secret).second) {
        token = InvalidError("another token has the same secret");
      }
      if (!token.ok()) {
        return InvalidError("{}, line {}: token {}: {}", file, line.line, name.str(),
                            Message(token.status()));
      }
      tokens.push_back(*std::move(token));
    }
  }
  return std::make_shared<const Tokens>(std::move(tokens));
}

absl::StatusOr<std::shared_ptr<const Tokens>> ReadTokens(const std::string& file) {
  BROOD_ASSIGN_OR_RETURN(const std::string text,
                         ReadPrivateFile("the tokens", file, kMostTokenFile));
  return ParseTokens(text, file);
}

}  // namespace brood
