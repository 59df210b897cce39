// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/kept_head.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace brood {

std::string KeptHeadToJson(const KeptHead& kept) {
  auto fields = nlohmann::json::array();
  for (const auto& [name, value] : EndToEnd(kept.head.fields)) {
    // How the body came, and that the caller did not wait, is over.
    const bool over = EqualsIgnoringCase(name, "Content-Length") ||
                      EqualsIgnoringCase(name, "Expect") || EqualsIgnoringCase(name, "Prefer");
    if (!over) fields.push_back({name, value});
  }
  const nlohmann::json json = {{"method", kept.head.method}, {"path", kept.path},
                               {"query", kept.head.query},   {"version", kept.head.version},
                               {"fields", fields},           {"peer", kept.peer},
                               {"user", kept.head.user}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

KeptHead KeptHeadFromJson(std::string_view text) {
  KeptHead kept;
  kept.head.method = "POST";
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return kept;
  kept.head.method = json.value("method", "POST");
  kept.head.query = json.value("query", "");
  kept.head.version = json.value("version", 11);
  kept.path = json.value("path", "");
  kept.peer = json.value("peer", "");
  kept.head.user = json.value("user", "");
  for (const auto& field : json.value("fields", nlohmann::json::array())) {
    if (field.size() == 2) kept.head.fields.emplace_back(field[0], field[1]);
  }
  return kept;
}

}  // namespace brood
