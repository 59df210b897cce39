// SPDX-License-Identifier: Apache-2.0

// Functions of the configuration: what is taken, and what is refused with which sentence.
#include "pool/cli/function_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "pool/functions/lambda_environment.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

const Words kCommand = {"/bin/cat", "-"};

TEST(FunctionConfigTest, ACommandIsEnough) {
  const auto function = ParseServeFunction("echo", {}, kCommand, {});
  ASSERT_TRUE(function.ok()) << function.status();
  const FunctionOptions& options = function->options;
  const FunctionOptions defaults;
  EXPECT_EQ(options.name, "echo");
  EXPECT_EQ(options.command.argv, kCommand);
  EXPECT_EQ(options.mode, FunctionMode::kParked);
  EXPECT_EQ(options.min, defaults.min);
  EXPECT_EQ(options.concurrency, defaults.concurrency);
  EXPECT_EQ(options.queue, defaults.queue);
  EXPECT_EQ(options.timeout, defaults.timeout);
  EXPECT_EQ(options.queue_timeout, defaults.queue_timeout);
  EXPECT_EQ(options.max_body, defaults.max_body);
  EXPECT_FALSE(options.cgi);
  ASSERT_TRUE(function->own_template);
  EXPECT_EQ(function->own_template->name, options.template_name);
  EXPECT_EQ(function->own_template->parked, defaults.min);
}

TEST(FunctionConfigTest, EveryKeyIsTaken) {
  const auto function = ParseServeFunction(
      "echo",
      {"--mode=primed", "--min=7", "--max=9", "--concurrency=3", "--queue=0", "--timeout=200ms",
       "--queue-timeout=2s", "--max-body=1K", "--cwd=/tmp", "--cgi", "--memory=64M", "--net=host"},
      kCommand, {"A=b=c"});
  ASSERT_TRUE(function.ok()) << function.status();
  const FunctionOptions& options = function->options;
  EXPECT_EQ(options.mode, FunctionMode::kPrimed);
  EXPECT_EQ(options.min, 7U);
  EXPECT_EQ(options.concurrency, 3U);
  EXPECT_EQ(options.queue, 0U);
  EXPECT_EQ(options.timeout, milliseconds(200));
  EXPECT_EQ(options.queue_timeout, seconds(2));
  EXPECT_EQ(options.max_body, 1024U);
  EXPECT_EQ(options.command.cwd, "/tmp");
  EXPECT_TRUE(options.cgi);
  EXPECT_THAT(options.command.env, Contains("A=b=c"));
  ASSERT_TRUE(function->own_template);
  EXPECT_EQ(function->own_template->parked, 7U);
  EXPECT_EQ(function->own_template->max_workers, 9U);
  EXPECT_EQ(function->own_template->spec.limits.memory_bytes, 64U << 20);
  EXPECT_EQ(function->own_template->spec.ns(NamespaceKind::kNet).mode, NamespaceMode::kHost);
}

TEST(FunctionConfigTest, ALambdaFindsItsEnvironment) {
  const auto function =
      ParseServeFunction("echo", {"--runtime=lambda", "--cwd=/var/task", "--memory=64M"}, kCommand,
                         {"_HANDLER=a.b", "AWS_REGION=eu-west-1"});
  ASSERT_TRUE(function.ok()) << function.status();
  const FunctionOptions& options = function->options;
  EXPECT_EQ(options.runtime, FunctionRuntime::kLambda);
  EXPECT_EQ(options.max_body, 6U << 20);
  for (const char* const entry :
       {"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "LAMBDA_TASK_ROOT=/var/task", "_HANDLER=a.b",
        "AWS_LAMBDA_FUNCTION_NAME=echo", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=64",
        "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "AWS_REGION=eu-west-1"}) {
    EXPECT_THAT(options.command.env, Contains(entry));
  }
  EXPECT_THAT(options.command.env, Not(Contains("_HANDLER=function.handler")));
  EXPECT_THAT(options.command.env, Not(Contains("AWS_REGION=us-east-1")));
  EXPECT_EQ(LambdaArn(options), "arn:aws:lambda:eu-west-1:000000000000:function:echo");
}

TEST(FunctionConfigTest, ALambdaIsWarmUnlessAnotherModeIsNamed) {
  const auto warm = ParseServeFunction(
      "echo", {"--runtime=lambda", "--max-calls=9", "--max-age=1h", "--idle=2s"}, kCommand, {});
  ASSERT_TRUE(warm.ok()) << warm.status();
  EXPECT_EQ(warm->options.mode, FunctionMode::kWarm);
  EXPECT_EQ(warm->options.min, 1U);
  EXPECT_EQ(warm->options.max_calls, 9U);
  EXPECT_EQ(warm->options.max_age, std::chrono::hours(1));
  EXPECT_EQ(warm->options.idle, seconds(2));
  const auto primed =
      ParseServeFunction("echo", {"--runtime=lambda", "--mode=primed"}, kCommand, {});
  ASSERT_TRUE(primed.ok()) << primed.status();
  EXPECT_EQ(primed->options.mode, FunctionMode::kPrimed);
  for (const Words& wrong : {Words{"--mode=warm"}, Words{"--max-calls=9"}, Words{"--idle=2s"},
                             Words{"--runtime=lambda", "--mode=primed", "--max-age=1s"}}) {
    EXPECT_FALSE(ParseServeFunction("echo", wrong, kCommand, {}).ok()) << wrong.back();
  }
}

TEST(FunctionConfigTest, ALambdaFitsNoTemplateWithAnothersNetwork) {
  auto function = ParseServeFunction("echo", {"--template=web", "--runtime=lambda"}, kCommand, {});
  ASSERT_TRUE(function.ok()) << function.status();
  Spec spec;
  spec.ns(NamespaceKind::kNet) = {NamespaceMode::kJoin, "/run/netns/web"};
  EXPECT_THAT(std::string(Message(FitFunction(spec, function->options))),
              HasSubstr("network namespace of its own"));
  spec.ns(NamespaceKind::kNet) = {};
  EXPECT_TRUE(FitFunction(spec, function->options).ok());
  EXPECT_THAT(function->options.command.env, Contains("AWS_LAMBDA_FUNCTION_NAME=echo"));
}

TEST(FunctionConfigTest, AColdFunctionKeepsNothingParked) {
  const auto function = ParseServeFunction("echo", {"--mode=cold"}, kCommand, {});
  ASSERT_TRUE(function.ok()) << function.status();
  EXPECT_EQ(function->own_template->parked, 0U);
}

TEST(FunctionConfigTest, AForkedFunctionHasItsIsolationForItsCalls) {
  const auto function =
      ParseServeFunction("echo", {"--mode=forked", "--min=3", "--hostname=x"}, kCommand, {});
  ASSERT_TRUE(function.ok()) << function.status();
  EXPECT_EQ(function->options.mode, FunctionMode::kForked);
  EXPECT_EQ(function->options.min, 3U);
  ASSERT_TRUE(function->options.spec);
  EXPECT_EQ(function->options.spec->hostname, "x");
  EXPECT_EQ(function->own_template->parked, 0U);
}

TEST(FunctionConfigTest, ATemplateOfOthersIsUsedAsItIs) {
  const auto function = ParseServeFunction("echo", {"--template=web"}, kCommand, {});
  ASSERT_TRUE(function.ok()) << function.status();
  EXPECT_FALSE(function->own_template);
  EXPECT_EQ(function->options.template_name, "web");
}

TEST(FunctionConfigTest, ANameOfTheEnvironmentIsThereOnce) {
  const auto function = ParseServeFunction("echo", {}, kCommand, {"PATH=/x", "B=1", "B=2"});
  ASSERT_TRUE(function.ok()) << function.status();
  Words paths, others;
  for (const std::string& each : function->options.command.env) {
    (each.starts_with("PATH=") ? paths : others).push_back(each);
  }
  EXPECT_THAT(paths, ElementsAre("PATH=/x"));
  EXPECT_THAT(others, Contains("B=2"));
  EXPECT_THAT(others, Not(Contains("B=1")));
}

TEST(FunctionConfigTest, NamesThatMakeAPathAreTaken) {
  for (const std::string& name :
       {std::string("a"), std::string("A-b_9"), std::string("0"), std::string(64, 'x')}) {
    EXPECT_TRUE(ParseServeFunction(name, {}, kCommand, {}).ok()) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("-a"), std::string("_"), std::string("a/b"), std::string("a b"),
        std::string("a.b"), std::string("\xc3\xa4"), std::string("a?"), std::string(65, 'x')}) {
    const auto function = ParseServeFunction(name, {}, kCommand, {});
    ASSERT_FALSE(function.ok()) << name;
    EXPECT_THAT(std::string(Message(function.status())), HasSubstr("is not a name")) << name;
  }
}

struct BadFunction {
  Words words;
  Words command;
  Words env;
  std::string_view why;
};

TEST(FunctionConfigTest, WhatIsWrongIsNamed) {
  const std::vector<BadFunction> cases = {
      {{}, {}, {}, "it needs a command"},
      {{"--mode=warm"}, kCommand, {}, "\"warm\""},
      {{"--mode=forked", "--runtime=lambda"}, kCommand, {}, "cannot be forked"},
      {{"--mode=forked", "--template=web"}, kCommand, {}, "isolated by its own keys"},
      {{"--mode=forked", "--rootfs=/", "--root-mode=overlay"}, kCommand, {}, "read-only"},
      {{"--speed=9"}, kCommand, {}, "--speed"},
      {{"stray"}, kCommand, {}, "stray"},
      {{"--help"}, kCommand, {}, "--help"},
      {{"--min=-1"}, kCommand, {}, "--min"},
      {{"--min=4097"}, kCommand, {}, "--min"},
      {{"--min=many"}, kCommand, {}, "many"},
      {{"--max=0"}, kCommand, {}, "--max"},
      {{"--concurrency=0"}, kCommand, {}, "--concurrency"},
      {{"--concurrency=65537"}, kCommand, {}, "--concurrency"},
      {{"--queue=-1"}, kCommand, {}, "--queue"},
      {{"--timeout=soon"}, kCommand, {}, "soon"},
      {{"--timeout=0s"}, kCommand, {}, "0s"},
      {{"--queue-timeout=-1s"}, kCommand, {}, "-1s"},
      {{"--max-body=much"}, kCommand, {}, "much"},
      {{"--max-body=0"}, kCommand, {}, "0"},
      {{"--memory=much"}, kCommand, {}, "much"},
      {{"--rootfs=/nowhere/at/all"}, kCommand, {}, "/nowhere/at/all"},
      {{"--cwd=somewhere"}, kCommand, {}, "somewhere"},
      {{}, kCommand, {"A"}, "env has A without"},
      {{}, kCommand, {"=b"}, "\"=b\""},
      // No call may meet another's.
      {{"--no-pid"}, kCommand, {}, "pid namespace of its own"},
      {{"--no-ipc"}, kCommand, {}, "ipc namespace of its own"},
      {{"--no-mount"}, kCommand, {}, "mount namespace of its own"},
      {{"--no-user"}, kCommand, {}, "user namespace of its own"},
      {{"--no-cgroup-leaf"}, kCommand, {}, "cgroup of its own"},
      {{"--rootfs=/", "--root-mode=rw"}, kCommand, {}, "may not write to a root"},
      {{"--runtime=java"}, kCommand, {}, "\"java\""},
      {{"--runtime=lambda", "--net=host"}, kCommand, {}, "network namespace of its own"},
      {{"--runtime=lambda", "--cgi"}, kCommand, {}, "cgi"},
      {{"--runtime=lambda", "--max-body=7M"}, kCommand, {}, "max-body is at most 6291456 bytes"},
      // Whose isolation is the template's own.
      {{"--template=web", "--memory=64M"}, kCommand, {}, "memory is the template's"},
  };
  for (const BadFunction& each : cases) {
    const auto function = ParseServeFunction("echo", each.words, each.command, each.env);
    const std::string where = each.words.empty() ? std::string(each.why) : each.words[0];
    ASSERT_FALSE(function.ok()) << where;
    EXPECT_THAT(std::string(Message(function.status())), HasSubstr(std::string(each.why))) << where;
  }
}

TEST(FunctionConfigTest, TheDoorsSettingsAreTaken) {
  HttpOptions http;
  ASSERT_TRUE(ParseHttpWords({"--max-connections=5", "--header-timeout=1s", "--body-timeout=2s",
                              "--idle-timeout=300ms", "--calls=/x/y", "--keep=2h", "--max-calls=7"},
                             http)
                  .ok());
  EXPECT_EQ(http.max_connections, 5U);
  EXPECT_EQ(http.header_timeout, seconds(1));
  EXPECT_EQ(http.body_timeout, seconds(2));
  EXPECT_EQ(http.idle_timeout, milliseconds(300));
  EXPECT_EQ(http.calls, "/x/y");
  EXPECT_EQ(http.keep, std::chrono::hours(2));
  EXPECT_EQ(http.max_calls, 7U);
  for (const Words& words :
       {Words{"--max-connections=0"}, Words{"--idle-timeout=x"}, Words{"--a"}}) {
    EXPECT_FALSE(ParseHttpWords(words, http).ok()) << words[0];
  }
}

struct Address {
  std::string text;
  std::string_view address;
  int port;
};

TEST(FunctionConfigTest, AddressesAreTakenApart) {
  for (const Address& each :
       {Address{"127.0.0.1:8080", "127.0.0.1", 8080}, Address{"[::1]:0", "::1", 0},
        Address{"0.0.0.0:65535", "0.0.0.0", 65535}, Address{":8080", "", 8080},
        Address{"localhost:1", "127.0.0.1", 1}}) {
    HttpOptions http;
    ASSERT_TRUE(ParseHttpAddress(each.text, http).ok()) << each.text;
    EXPECT_EQ(http.address, each.address);
    EXPECT_EQ(http.port, each.port);
  }
  for (const char* const text :
       {"", "8080", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http"}) {
    HttpOptions http;
    EXPECT_FALSE(ParseHttpAddress(text, http).ok()) << text;
  }
  for (const char* const text : {"/run/x.sock", "unix:/run/x.sock"}) {
    HttpOptions http;
    ASSERT_TRUE(ParseHttpAddress(text, http).ok()) << text;
    EXPECT_EQ(http.path, "/run/x.sock");
  }
  HttpOptions http;
  ASSERT_TRUE(ParseHttpAddress("inherited", http).ok());
  EXPECT_TRUE(http.inherited);
}

}  // namespace
}  // namespace brood
