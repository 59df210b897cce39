// SPDX-License-Identifier: Apache-2.0

// Functions and the HTTP door, as the daemon's configuration has them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/functions/function.h"
#include "pool/http/options.h"
#include "pool/pool.h"

namespace brood {

struct ServeFunction {
  // All it was made of, and what the paths of its own template led to (SourceState): two functions
  // with the same name and the same of both are the same.
  std::vector<std::string> words;
  std::string sources;
  FunctionOptions options;
  std::optional<TemplateOptions> own_template;  // none: it uses one of the configuration's
};

// The keys of [function.NAME] but for its command, its env and its isolation, as typed. The manual
// page is made of the same options that parse them.
struct FunctionWords {
  FunctionOptions options;  // what needs no second look
  std::string mode = std::string(FunctionModeName(FunctionOptions().mode));
  std::string runtime = std::string(FunctionRuntimeName(FunctionOptions().runtime));
  std::string input = "body", event = "body";
  std::vector<std::string> env_files, secrets;
  std::string timeout, queue_timeout, max_body, max_age, idle;
  std::uint32_t max = 0;
};
void AddFunctionOptions(CLI::App& app, FunctionWords& words);

// Those of [http].
struct HttpWords {
  HttpOptions options;
  std::string header_timeout, body_timeout, idle_timeout, keep;
};
void AddHttpOptions(CLI::App& app, HttpWords& words);

// A table [function.NAME] as words, "--mode=primed --min=8 --rootfs=/srv/debian": the keys of
// AddFunctionOptions, and, without template, the isolation of `brood run`. `env`: "NAME=value", or
// "NAME" with the value that this process has, beside the usual ones. Relative paths begin at
// `base`, or where this process stands.
//
// Isolation through which one call could reach another is refused: a process, ipc, mount or user
// namespace that is not its own, and a root it may write to that outlives it.
absl::StatusOr<ServeFunction> ParseServeFunction(const std::string& name,
                                                 const std::vector<std::string>& words,
                                                 const std::vector<std::string>& command,
                                                 const std::vector<std::string>& env,
                                                 const std::string& base = "");

// Fits a function to the isolation that it will run in, for a template that functions share: the
// check above, and what its runtime needs of them.
absl::Status FitFunction(const Spec& spec, FunctionOptions& options);

// The table [http] as words: the keys of AddHttpOptions. `base` as above.
absl::Status ParseHttpWords(const std::vector<std::string>& words, HttpOptions& http,
                            const std::string& base = "");

// "127.0.0.1:8080", "[::1]:8080", "localhost:8080"; ":8080" for all addresses; "/run/x.sock" or
// "unix:x.sock"; "inherited". Port 0 is the kernel's choice.
absl::Status ParseHttpAddress(const std::string& text, HttpOptions& http);

}  // namespace brood
