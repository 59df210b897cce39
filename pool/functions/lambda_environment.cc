// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/lambda_environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "pool/functions/lambda_endpoint.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// One that Lambda has: programs that ask for theirs expect an answer.
constexpr std::string_view kRegion = "us-east-1";

std::optional<std::string_view> Find(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string_view entry : env) {
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
      return entry.substr(name.size() + 1);
    }
  }
  return std::nullopt;
}

}  // namespace

absl::Status FitLambda(const Spec& spec, FunctionOptions& options) {
  if (!spec.is_new(NamespaceKind::kNet)) {
    return InvalidError(
        "runtime = \"lambda\" needs a network namespace of its own, since a process that shares it "
        "could answer the function's calls; leave out net");
  }
  std::vector<std::pair<std::string_view, std::string>> defaults = {
      {"AWS_LAMBDA_RUNTIME_API", fmt::format("127.0.0.1:{}", LambdaEndpoint::kPort)},
      {"_HANDLER", "function.handler"},
      {"LAMBDA_TASK_ROOT", options.command.cwd},
      {"LAMBDA_RUNTIME_DIR", "/var/runtime"},
      {"AWS_LAMBDA_FUNCTION_NAME", options.name},
      {"AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"},
      {"AWS_LAMBDA_INITIALIZATION_TYPE",
       options.mode == FunctionMode::kPrimed ? "provisioned-concurrency" : "on-demand"},
      {"AWS_LAMBDA_LOG_GROUP_NAME", fmt::format("/aws/lambda/{}", options.name)},
      {"AWS_LAMBDA_LOG_STREAM_NAME", "$LATEST"},
      {"AWS_REGION", std::string(kRegion)},
      {"AWS_DEFAULT_REGION", std::string(kRegion)},
      {"TZ", ":UTC"},
  };
  if (spec.limits.memory_bytes) {
    defaults.emplace_back(
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        fmt::to_string(std::max<std::uint64_t>(*spec.limits.memory_bytes >> 20, 1)));
  }
  std::vector<std::string>& env = options.command.env;
  for (const auto& [name, value] : defaults) {
    if (!Find(env, name)) env.push_back(fmt::format("{}={}", name, value));
  }
  return absl::OkStatus();
}

std::string LambdaArn(const FunctionOptions& options) {
  return fmt::format("arn:aws:lambda:{}:000000000000:function:{}",
                     Find(options.command.env, "AWS_REGION").value_or(kRegion), options.name);
}

}  // namespace brood
