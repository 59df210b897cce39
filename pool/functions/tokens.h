// SPDX-License-Identifier: Apache-2.0

// Who may call which functions, by bearer tokens (RFC 6750).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

struct Token {
  std::string name;                     // whose it is; told to functions and the log
  std::string secret;                   // what a caller sends
  std::vector<std::string> functions;   // that it may call; "*" is all of them
  bool admin = false;                   // it may ask what there is and how it is
  std::optional<std::int64_t> expires;  // seconds since the epoch
};

// Immutable; any thread.
class Tokens {
 public:
  explicit Tokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  struct Found {
    const Token* token = nullptr;
    std::string_view why;  // what is wrong, where there is none; empty: none was sent
  };
  // By the value of a request's field Authorization. How long it takes says nothing of the secrets
  // but their lengths. `now`: seconds since the epoch.
  Found Find(std::string_view authorization, std::int64_t now) const;
  static bool MayCall(const Token& token, std::string_view function);

  std::size_t size() const { return tokens_.size(); }

 private:
  std::vector<Token> tokens_;
};

}  // namespace brood
