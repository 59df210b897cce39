// SPDX-License-Identifier: Apache-2.0

// What a daemon is told: by its configuration file, and by options, which win.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/cli/function_config.h"
#include "pool/functions/tokens.h"
#include "pool/pool.h"

namespace brood {

inline constexpr std::uint32_t kMaxUnclaimed = 4096;  // a list of all is one message

struct ServeTemplate {
  // As typed, and what the paths among them led to (SourceState): two templates with the same of
  // both are the same.
  std::vector<std::string> words;
  std::string sources;
  TemplateOptions options;
};

// Why what was deployed is left out.
struct DeployProblem {
  std::string link;  // its path; of the directory itself, where that cannot be read
  std::string why;   // a sentence
};

struct ServeConfig {
  std::string base;      // where its file's relative paths begin; empty: where the process stands
  std::string deployed;  // the directory of what is deployed; empty: none
  std::optional<std::string> socket;
  std::optional<std::string> group;
  std::optional<std::uint32_t> max_running;
  std::optional<std::uint32_t> max_unclaimed;
  std::optional<std::uint64_t> log_bytes;
  // How long what runs may go on once the daemon has been told to end; 0: without end.
  std::chrono::nanoseconds drain = std::chrono::seconds(30);
  std::vector<ServeTemplate> templates;  // the first is the default
  HttpOptions http;                      // what [http] says
  std::shared_ptr<const Tokens> tokens;  // what its file of tokens says; null: it names none
  std::vector<ServeFunction> functions;
  std::vector<DeployProblem> problems;
};

// A setting of the configuration file, outside of templates.
struct ServeSetting {
  std::string_view key;
  std::string_view value;  // "PATH" and such, as for options
  std::string_view description;
};
std::span<const ServeSetting> ServeSettings();

// The options a template has beside those for isolation: --parked, --zygotes and --max-workers.
void AddTemplateOptions(CLI::App& app, TemplateOptions& options);

// A template from words as on the command line, "--rootfs /srv/debian --parked 64". They are those
// of `brood run` for isolation and limits, and --parked, --zygotes and --max-workers.
// kInvalidArgument with a sentence that names the template.
absl::StatusOr<ServeTemplate> ParseServeTemplate(const std::string& name,
                                                 const std::vector<std::string>& words);

// "30s"; "0": without end.
absl::StatusOr<std::chrono::nanoseconds> ParseDrain(const std::string& text);

// A TOML file: socket, group, max-running, max-unclaimed, log-size, drain, deployed, and a table
// [template.NAME] for each template, whose keys are the words above without their dashes; what can
// be given again is an array. What is not known is an error. [function.NAME] and [http] are
// described in pool/cli/function_config.h. `text` is the file's content, `file` its name for
// sentences.
absl::StatusOr<ServeConfig> ParseServeConfig(std::string_view text, const std::string& file);
// The same of a file that is there.
absl::StatusOr<ServeConfig> ReadServeFile(const std::string& file);

// Splits "a 'b c' d" as a shell would, quotes only.
std::vector<std::string> SplitWords(const std::string& text);

}  // namespace brood
