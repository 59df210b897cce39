// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/lambda_event.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/time/time.h"
#include "pool/functions/request_text.h"

namespace brood {
namespace {

using AnswerJson = nlohmann::ordered_json;  // whose fields keep their order
using SortedJson = nlohmann::json;          // a caller may send thousands of names

constexpr std::string_view kAccount = "000000000000";
constexpr std::string_view kPreludeEnd("\0\0\0\0\0\0\0\0", 8);
constexpr std::size_t kMaxPrelude = 64U << 10;

bool IsText(std::string_view type) {
  const std::string lower = LowerCase(type.substr(0, type.find(';')));
  if (lower.empty() || lower.starts_with("text/")) return true;
  for (const std::string_view each : {"json", "xml", "javascript", "x-www-form-urlencoded"}) {
    if (lower.ends_with(each)) return true;
  }
  return false;
}

bool IsUtf8(std::string_view text) {
  // The library refuses to write what is none.
  try {
    (void)SortedJson(text).dump();
  } catch (const SortedJson::type_error&) {
    return false;
  }
  return true;
}

// What names and values are joined to where one name comes more than once, and what each came as.
struct Multi {
  SortedJson joined = SortedJson::object();
  SortedJson all = SortedJson::object();
  SortedJson last = SortedJson::object();

  void Add(const std::string& name, const std::string& value) {
    SortedJson& one = joined[name];
    if (one.is_null()) {
      one = value;
    } else {
      one.get_ref<std::string&>() += "," + value;
    }
    last[name] = value;
    all[name].push_back(value);
  }
  static SortedJson OrNull(const SortedJson& object) {
    return object.empty() ? SortedJson(nullptr) : object;
  }
};

Multi QueryParameters(std::string_view query) {
  Multi out;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    const std::size_t equals = std::min(part.find('='), part.size());
    const auto decode = [](std::string_view text) {
      std::string plain(text);
      std::replace(plain.begin(), plain.end(), '+', ' ');
      return PercentDecoded(plain);
    };
    if (!part.empty()) {
      out.Add(decode(part.substr(0, equals)),
              decode(part.substr(std::min(equals + 1, part.size()))));
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return out;
}

std::string Protocol(const RequestHead& head) {
  return head.version == 10 ? "HTTP/1.0" : "HTTP/1.1";
}

// As "12/Mar/2020:19:03:58 +0000".
std::string TimeText(std::int64_t ms) {
  return absl::FormatTime("%d/%b/%Y:%H:%M:%S +0000", absl::FromUnixMillis(ms), absl::UTCTimeZone());
}

SortedJson EventOfVersion1(const FunctionOptions& function, const EventRequest& request,
                           std::string_view path) {
  const RequestHead& head = request.head;
  Multi headers;
  for (const auto& [name, value] : head.fields) headers.Add(name, value);
  const Multi query = QueryParameters(head.query);
  return {{"version", "1.0"},
          {"resource", "/{proxy+}"},
          {"path", path},
          {"httpMethod", head.method},
          {"headers", headers.last},
          {"multiValueHeaders", headers.all},
          {"queryStringParameters", Multi::OrNull(query.last)},
          {"multiValueQueryStringParameters", Multi::OrNull(query.all)},
          {"requestContext",
           {{"accountId", kAccount},
            {"apiId", function.name},
            {"domainName", FindField(head.fields, "Host")},
            {"domainPrefix", function.name},
            {"extendedRequestId", request.id},
            {"httpMethod", head.method},
            {"identity",
             {{"sourceIp", request.peer}, {"userAgent", FindField(head.fields, "User-Agent")}}},
            {"path", path},
            {"protocol", Protocol(head)},
            {"requestId", request.id},
            {"requestTime", TimeText(request.now_ms)},
            {"requestTimeEpoch", request.now_ms},
            {"resourceId", nullptr},
            {"resourcePath", "/{proxy+}"},
            {"stage", "$default"}}},
          {"pathParameters", {{"proxy", path.substr(1)}}},
          {"stageVariables", nullptr}};
}

SortedJson EventOfVersion2(const FunctionOptions& function, const EventRequest& request,
                           std::string_view path) {
  const RequestHead& head = request.head;
  Multi headers;
  SortedJson cookies = SortedJson::array();
  for (const auto& [name, value] : head.fields) {
    if (!EqualsIgnoringCase(name, "Cookie")) {
      headers.Add(LowerCase(name), value);
      continue;
    }
    for (std::string_view rest = value; !rest.empty();) {
      const std::size_t end = std::min(rest.find(';'), rest.size());
      std::string_view cookie = rest.substr(0, end);
      while (cookie.starts_with(' ')) cookie.remove_prefix(1);
      if (!cookie.empty()) cookies.push_back(cookie);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  SortedJson event = {{"version", "2.0"},
                      {"routeKey", "$default"},
                      {"rawPath", path},
                      {"rawQueryString", head.query}};
  if (!cookies.empty()) event["cookies"] = cookies;
  event["headers"] = headers.joined;
  if (const Multi query = QueryParameters(head.query); !query.joined.empty()) {
    event["queryStringParameters"] = query.joined;
  }
  event["requestContext"] = {{"accountId", kAccount},
                             {"apiId", function.name},
                             {"domainName", FindField(head.fields, "Host")},
                             {"domainPrefix", function.name},
                             {"http",
                              {{"method", head.method},
                               {"path", path},
                               {"protocol", Protocol(head)},
                               {"sourceIp", request.peer},
                               {"userAgent", FindField(head.fields, "User-Agent")}}},
                             {"requestId", request.id},
                             {"routeKey", "$default"},
                             {"stage", "$default"},
                             {"time", TimeText(request.now_ms)},
                             {"timeEpoch", request.now_ms}};
  return event;
}

EventAnswer BadResponse(std::string why) {
  EventAnswer answer;
  answer.error = std::move(why);
  return answer;
}

std::string TextOf(const AnswerJson& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, AnswerJson::error_handler_t::replace);
}

void PutField(const std::string& name, const AnswerJson& value, EventAnswer& answer) {
  const std::string text = TextOf(value);
  if (!IsToken(name) || !IsFieldValue(text)) {
    answer.error = "one of its headers is no header field";
  } else if (MaySetField(name)) {
    answer.fields.emplace_back(name, text);
  }
}

// Its status and fields.
EventAnswer HeadOf(const AnswerJson& response) {
  EventAnswer answer;
  const AnswerJson status = response.value("statusCode", AnswerJson(200));
  // API Gateway takes the number as text, too.
  const std::string digits = TextOf(status);
  if (digits.size() != 3 || digits[0] < '2' || digits[0] > '5' ||
      !std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); })) {
    return BadResponse("its statusCode is not from 200 to 599");
  }
  answer.status = std::stoi(digits);
  const auto each = [&](const char* key, const auto& put) {
    const auto found = response.find(key);
    if (found == response.end() || found->is_null()) return;
    if (!found->is_object()) {
      answer.error = fmt::format("its {} are no object", key);
      return;
    }
    for (const auto& [name, value] : found->items()) put(name, value);
  };
  const auto many = response.find("multiValueHeaders");
  each("headers", [&](const std::string& name, const AnswerJson& value) {
    const bool again = many != response.end() && many->is_object() && many->contains(name);
    if (!again) PutField(name, value, answer);
  });
  each("multiValueHeaders", [&](const std::string& name, const AnswerJson& values) {
    for (const AnswerJson& value : values) PutField(name, value, answer);
  });
  if (const auto cookies = response.find("cookies"); cookies != response.end()) {
    for (const AnswerJson& cookie : *cookies) PutField("Set-Cookie", cookie, answer);
  }
  return answer;
}

}  // namespace

std::string EventJson(const FunctionOptions& function, const EventRequest& request,
                      std::string_view body) {
  const std::string path = request.path.empty() ? "/" : request.path;
  const bool first = function.event == LambdaEvent::kApiGateway1;
  EventRequest own = request;
  Fields& fields = own.head.fields;
  std::erase_if(fields, [](const auto& field) { return IsUserField(field.first); });
  if (!own.head.user.empty()) fields.emplace_back("X-Forwarded-User", own.head.user);
  SortedJson event =
      first ? EventOfVersion1(function, own, path) : EventOfVersion2(function, own, path);
  const bool text = IsText(FindField(request.head.fields, "Content-Type")) && IsUtf8(body);
  if (!body.empty()) {
    event["body"] = text ? std::string(body) : absl::Base64Escape({body.data(), body.size()});
  } else if (first) {
    event["body"] = nullptr;
  }
  event["isBase64Encoded"] = !text;
  return event.dump(-1, ' ', false, SortedJson::error_handler_t::replace);
}

EventAnswer AnswerOfResponse(LambdaEvent event, std::string_view response) {
  const AnswerJson json = AnswerJson::parse(response, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return BadResponse("it is not JSON");
  if (!json.is_object() || !json.contains("statusCode")) {
    if (event == LambdaEvent::kApiGateway1) return BadResponse("it has no statusCode");
    EventAnswer answer;
    answer.fields.emplace_back("Content-Type", "application/json");
    answer.body = json.is_string() ? json.get<std::string>() : std::string(response);
    return answer;
  }
  EventAnswer answer = HeadOf(json);
  if (!answer.error.empty()) return answer;
  if (const auto body = json.find("body"); body != json.end() && !body->is_null()) {
    answer.body = TextOf(*body);
  }
  if (json.value("isBase64Encoded", AnswerJson(false)) == true) {
    std::string plain;
    if (!absl::Base64Unescape({answer.body.data(), answer.body.size()}, &plain)) {
      return BadResponse("its body is not base64");
    }
    answer.body = std::move(plain);
  }
  const bool typed = !FindField(answer.fields, "Content-Type").empty();
  if (!typed && answer.status.has_body()) {
    answer.fields.emplace_back("Content-Type", event == LambdaEvent::kApiGateway1
                                                   ? "application/json"
                                                   : "text/plain; charset=utf-8");
  }
  return answer;
}

std::optional<Prelude> ParsePrelude(std::string_view response) {
  const std::size_t end = response.find(kPreludeEnd);
  if (end == std::string_view::npos) {
    if (response.size() <= kMaxPrelude) return std::nullopt;
    return Prelude{BadResponse("its prelude is too long"), 0};
  }
  const AnswerJson json =
      AnswerJson::parse(response.substr(0, end), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Prelude{BadResponse("its prelude is not a JSON object"), 0};
  return Prelude{HeadOf(json), end + kPreludeEnd.size()};
}

}  // namespace brood
