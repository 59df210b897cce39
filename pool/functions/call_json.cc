// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_json.h"

#include <nlohmann/json.hpp>
#include <string_view>

namespace brood {
namespace {

using Json = nlohmann::ordered_json;

bool IsText(const std::string& bytes) {
  // The library checks UTF-8 when it writes.
  try {
    (void)Json(bytes).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

std::string Base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      out += j <= count ? kDigits[group >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

void PutTime(Json& json, const char* name, std::int64_t us) {
  if (us != 0) json[name] = static_cast<double>(us) / 1e6;
}

Json CallObject(const StoredCall& call) {
  Json json = {{"id", call.id},
               {"function", call.function},
               {"state", call.state},
               {"attempts", call.attempts}};
  PutTime(json, "accepted", call.accepted_us);
  PutTime(json, "started", call.started_us);
  PutTime(json, "ended", call.ended_us);
  if (call.result) {
    json["status"] = call.result->status;
    json["headers"] = Json::parse(call.result->fields, nullptr, /*allow_exceptions=*/false);
    if (IsText(call.result->output)) {
      json["output"] = call.result->output;
    } else {
      json["output_base64"] = Base64(call.result->output);
    }
    json["output_truncated"] = call.result->truncated;
    if (!call.result->err.empty()) json["stderr"] = call.result->err;
  }
  return json;
}

std::string Text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string CallToJson(const StoredCall& call) { return Text(CallObject(call)); }

std::string CallsToJson(const std::vector<StoredCall>& calls) {
  Json list = Json::array();
  for (const StoredCall& call : calls) list.push_back(CallObject(call));
  return Text(list);
}

}  // namespace brood
