// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/tokens.h"

#include <algorithm>

#include "pool/http/fields.h"

namespace brood {
namespace {

constexpr std::string_view kBearer = "Bearer ";

// Looks at every byte that was sent, whatever it finds.
bool IsSame(std::string_view sent, std::string_view secret) {
  std::size_t differ = sent.size() ^ secret.size();
  for (std::size_t i = 0; i < sent.size(); ++i) {
    differ |=
        static_cast<unsigned char>(sent[i]) ^ static_cast<unsigned char>(secret[i % secret.size()]);
  }
  // The compiler may not know when the outcome is clear.
  asm volatile("" : "+r"(differ));
  return differ == 0;
}

}  // namespace

Tokens::Found Tokens::Find(std::string_view authorization, std::int64_t now) const {
  if (authorization.empty()) return {};
  if (!EqualsIgnoringCase(authorization.substr(0, kBearer.size()), kBearer)) {
    return {nullptr, "it is not a bearer token"};
  }
  std::string_view sent = authorization.substr(kBearer.size());
  while (sent.starts_with(' ')) sent.remove_prefix(1);
  const Token* found = nullptr;
  for (const Token& each : tokens_) {
    if (IsSame(sent, each.secret)) found = &each;
  }
  if (found == nullptr) return {nullptr, "nobody has this token"};
  if (found->expires && *found->expires <= now) return {nullptr, "the token has expired"};
  return {found, ""};
}

bool Tokens::MayCall(const Token& token, std::string_view function) {
  return std::any_of(token.functions.begin(), token.functions.end(),
                     [&](const std::string& each) { return each == "*" || each == function; });
}

}  // namespace brood
