// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/serve_words.h"

#include <algorithm>
#include <string>
#include <utility>

#include "pool/cli/deployed.h"
#include "pool/cli/token_file.h"
#include "pool/http/server.h"
#include "spawn/base/status.h"
#include "spawn/plan/source_state.h"

namespace brood {

absl::StatusOr<ServeConfig> ReadServeConfig(const ServeWords& words) {
  ServeConfig config;
  if (!words.config_file.empty()) {
    BROOD_ASSIGN_OR_RETURN(config, ReadServeFile(words.config_file));
  }
  for (const std::string& word : words.templates) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const std::string rest = equals == std::string::npos ? "" : word.substr(equals + 1);
    BROOD_ASSIGN_OR_RETURN(ServeTemplate parsed, ParseServeTemplate(name, SplitWords(rest)));
    const auto same = std::find_if(config.templates.begin(), config.templates.end(),
                                   [&](const auto& each) { return each.options.name == name; });
    if (same == config.templates.end()) {
      config.templates.push_back(std::move(parsed));
    } else {
      *same = std::move(parsed);
    }
  }
  if (config.templates.empty()) {
    BROOD_ASSIGN_OR_RETURN(ServeTemplate host, ParseServeTemplate("default", {}));
    if (words.pool) host.options.parked = *words.pool;
    config.templates.push_back(std::move(host));
  } else if (words.pool) {
    return InvalidError(
        "--pool is for a daemon without templates: in template {}, `parked` sets how many it keeps",
        config.templates.front().options.name);
  }
  AddDeployed(config);
  for (ServeTemplate& each : config.templates) each.sources = SourceState(each.options.spec);
  for (ServeFunction& each : config.functions) {
    if (each.own_template) {
      each.sources = SourceState(each.own_template->spec);
      continue;
    }
    const std::string& wanted = each.options.template_name;
    const auto tmpl = std::find_if(config.templates.begin(), config.templates.end(),
                                   [&](const auto& one) { return one.options.name == wanted; });
    const absl::Status fit = tmpl == config.templates.end()
                                 ? InvalidError("there is no template \"{}\"", wanted)
                                 : FitFunction(tmpl->options.spec, each.options);
    if (!fit.ok()) {
      return Error(fit.code(), "function {}: {}", each.options.name, Message(fit));
    }
  }
  if (!words.http.empty()) BROOD_RETURN_IF_ERROR(ParseHttpAddress(words.http, config.http));
  if (!config.http.tokens.empty()) {
    BROOD_ASSIGN_OR_RETURN(config.tokens, ReadTokens(config.http.tokens));
  }
  if (!words.socket.empty()) config.socket = words.socket;
  if (!words.group.empty()) config.group = words.group;
  if (!words.drain.empty()) {
    BROOD_ASSIGN_OR_RETURN(config.drain, ParseDrain(words.drain));
  }
  if (words.max_running != 0) config.max_running = words.max_running;
  if (words.max_unclaimed != 0) config.max_unclaimed = words.max_unclaimed;
  return config;
}

}  // namespace brood
