// SPDX-License-Identifier: Apache-2.0

// Events and answers as API Gateway has them.
#include "pool/functions/lambda_event.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace brood {
namespace {

using Json = nlohmann::json;

EventRequest Request(Fields fields) {
  EventRequest request;
  request.head.method = "PUT";
  request.head.query = "a=1&b=%20x+y&a=2&c";
  request.head.fields = std::move(fields);
  request.path = "/items/7";
  request.peer = "10.0.0.9";
  request.id = "the-id";
  request.now_ms = 1583348638390;
  return request;
}

Json Event(LambdaEvent event, const EventRequest& request, std::string_view body) {
  FunctionOptions function;
  function.name = "f";
  function.event = event;
  return Json::parse(EventJson(function, request, body));
}

TEST(LambdaEventTest, OfVersion2) {
  const Json event = Event(LambdaEvent::kApiGateway2,
                           Request({{"Host", "example.org"},
                                    {"X-A", "1"},
                                    {"x-a", "2"},
                                    {"User-Agent", "curl"},
                                    {"Cookie", "k=v; l=w"},
                                    {"Content-Type", "application/json"}}),
                           "{\"x\": 1}");
  EXPECT_EQ(event["version"], "2.0");
  EXPECT_EQ(event["routeKey"], "$default");
  EXPECT_EQ(event["rawPath"], "/items/7");
  EXPECT_EQ(event["rawQueryString"], "a=1&b=%20x+y&a=2&c");
  EXPECT_EQ(event["cookies"], Json({"k=v", "l=w"}));
  EXPECT_EQ(event["headers"]["x-a"], "1,2");
  EXPECT_FALSE(event["headers"].contains("cookie"));
  EXPECT_EQ(event["queryStringParameters"], Json({{"a", "1,2"}, {"b", " x y"}, {"c", ""}}));
  const Json& context = event["requestContext"];
  EXPECT_EQ(context["http"]["method"], "PUT");
  EXPECT_EQ(context["http"]["path"], "/items/7");
  EXPECT_EQ(context["http"]["sourceIp"], "10.0.0.9");
  EXPECT_EQ(context["http"]["userAgent"], "curl");
  EXPECT_EQ(context["requestId"], "the-id");
  EXPECT_EQ(context["time"], "04/Mar/2020:19:03:58 +0000");
  EXPECT_EQ(context["timeEpoch"], 1583348638390);
  EXPECT_EQ(event["body"], "{\"x\": 1}");
  EXPECT_EQ(event["isBase64Encoded"], false);
}

TEST(LambdaEventTest, OfVersion1) {
  EventRequest request = Request({{"Host", "h"}, {"X-A", "1"}, {"X-A", "2"}});
  Json event = Event(LambdaEvent::kApiGateway1, request, "");
  EXPECT_EQ(event["version"], "1.0");
  EXPECT_EQ(event["path"], "/items/7");
  EXPECT_EQ(event["httpMethod"], "PUT");
  EXPECT_EQ(event["headers"]["X-A"], "2");
  EXPECT_EQ(event["multiValueHeaders"]["X-A"], Json({"1", "2"}));
  EXPECT_EQ(event["queryStringParameters"]["a"], "2");
  EXPECT_EQ(event["multiValueQueryStringParameters"]["a"], Json({"1", "2"}));
  EXPECT_EQ(event["requestContext"]["identity"]["sourceIp"], "10.0.0.9");
  EXPECT_EQ(event["pathParameters"]["proxy"], "items/7");
  EXPECT_TRUE(event["body"].is_null());
  request.head.query.clear();
  request.path.clear();
  event = Event(LambdaEvent::kApiGateway1, request, "x");
  EXPECT_TRUE(event["queryStringParameters"].is_null());
  EXPECT_EQ(event["path"], "/");
}

TEST(LambdaEventTest, NamesWhoseTokenItIs) {
  EventRequest request = Request({{"X-Forwarded-User", "root"}, {"X_Forwarded_User", "root"}});
  request.head.user = "anna";
  EXPECT_EQ(Event(LambdaEvent::kApiGateway2, request, "")["headers"],
            Json({{"x-forwarded-user", "anna"}}));
  request.head.user.clear();
  EXPECT_EQ(Event(LambdaEvent::kApiGateway1, request, "")["headers"], Json::object());
}

TEST(LambdaEventTest, ABodyThatIsNoTextIsBase64) {
  const std::pair<Fields, std::string> binary[] = {{{{"Content-Type", "image/png"}}, "text"},
                                                   {{{"Content-Type", "text/plain"}}, "\xff\xfe"}};
  for (const auto& [fields, body] : binary) {
    const Json event = Event(LambdaEvent::kApiGateway2, Request(fields), body);
    EXPECT_EQ(event["isBase64Encoded"], true);
    EXPECT_NE(event["body"], body);
  }
}

struct AnswerCase {
  const char* name;
  LambdaEvent event;
  const char* response;
  int status;  // 0: it is none
  const char* body;
  Fields fields;
};

TEST(LambdaAnswerTest, IsWhatTheResponseSays) {
  const auto one = LambdaEvent::kApiGateway1;
  const auto two = LambdaEvent::kApiGateway2;
  const Fields json = {{"Content-Type", "application/json"}};
  const Fields text = {{"Content-Type", "text/plain; charset=utf-8"}};
  const AnswerCase cases[] = {
      {"whole",
       two,
       R"({"statusCode": 201, "headers": {"X-A": "b", "Content-Type": "a/b"}, "body": "hi"})",
       201,
       "hi",
       {{"X-A", "b"}, {"Content-Type", "a/b"}}},
      {"base64", two, R"({"statusCode": 200, "body": "AAE=", "isBase64Encoded": true})", 200,
       nullptr, text},
      {"cookies",
       two,
       R"({"statusCode": 204, "cookies": ["a=1", "b=2"]})",
       204,
       "",
       {{"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}}},
      {"no_status", two, R"({"x": 1})", 200, R"({"x": 1})", json},
      {"a_string", two, R"("hello")", 200, "hello", json},
      {"status_as_text", two, R"({"statusCode": "404"})", 404, "", text},
      {"many",
       one,
       R"({"statusCode": 200, "headers": {"A": "1"}, "multiValueHeaders": {"A": ["2", "3"]}, "body": ""})",
       200,
       "",
       {{"A", "2"}, {"A", "3"}, {"Content-Type", "application/json"}}},
      {"not_its_to_set",
       two,
       R"({"statusCode": 204, "headers": {"Connection": "x", "Brood-Path": "y", "Content-Length": "9"}})",
       204,
       "",
       {}},
      {"no_status_of_1", one, R"({"x": 1})", 0, "", {}},
      {"no_json", two, "x", 0, "", {}},
      {"bad_status", two, R"({"statusCode": 99})", 0, "", {}},
      {"bad_base64",
       two,
       R"({"statusCode": 200, "body": "*", "isBase64Encoded": true})",
       0,
       "",
       {}},
      {"splits", two, R"({"statusCode": 200, "headers": {"A": "b\r\nSet-Cookie: c"}})", 0, "", {}},
      {"no_object", two, R"({"statusCode": 200, "headers": [1]})", 0, "", {}},
  };
  for (const AnswerCase& each : cases) {
    const EventAnswer answer = AnswerOfResponse(each.event, each.response);
    EXPECT_EQ(answer.error.empty(), each.status != 0) << each.name << answer.error;
    if (each.status == 0) continue;
    EXPECT_EQ(answer.status.code, each.status) << each.name;
    EXPECT_EQ(answer.body, each.body == nullptr ? std::string("\0\1", 2) : each.body) << each.name;
    EXPECT_EQ(answer.fields, each.fields) << each.name;
  }
}

TEST(LambdaAnswerTest, AStreamBeginsWithItsPrelude) {
  const std::string prelude = R"({"statusCode": 418, "headers": {"A": "b"}})";
  const std::string end(8, '\0');
  EXPECT_FALSE(ParsePrelude(prelude).has_value());
  EXPECT_FALSE(ParsePrelude(prelude + std::string(7, '\0')).has_value());
  const auto parsed = ParsePrelude(prelude + end + "body");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->bytes, prelude.size() + 8);
  EXPECT_EQ(parsed->answer.status.code, 418);
  EXPECT_EQ(parsed->answer.fields, (Fields{{"A", "b"}}));
  for (const std::string& bad : {"no json" + end, std::string(70000, 'x'), "[1]" + end}) {
    const auto none = ParsePrelude(bad);
    ASSERT_TRUE(none.has_value());
    EXPECT_NE(none->answer.error, "");
  }
}

}  // namespace
}  // namespace brood
