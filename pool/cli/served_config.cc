// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/served_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "pool/cli/serve_log.h"
#include "pool/core/run_in_pool.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

auto FindTemplate(auto& in, const std::string& name) {
  return std::find_if(in.begin(), in.end(),
                      [&](const auto& each) { return each.options.name == name; });
}

}  // namespace

void ServedConfig::PublishTemplates() {
  Service::Templates templates;
  for (const ServeTemplate& each : config_.templates) {
    templates.emplace_back(each.options.name, std::make_shared<const Spec>(each.options.spec));
  }
  (void)RunInPool(pool_, [&] {
    service_.SetTemplates(std::move(templates));
    return absl::OkStatus();
  });
}

absl::Status ServedConfig::Change(ServeConfig next) {
  next.http.address = config_.http.address;
  next.http.port = config_.http.port;
  if (next.tokens == nullptr && config_.tokens != nullptr) {
    return InvalidError("[http] tokens is gone: without a restart the door is not opened");
  }
  next.http.tokens = config_.http.tokens;
  if (next.socket != config_.socket || next.group != config_.group ||
      next.max_running != config_.max_running || next.log_bytes != config_.log_bytes ||
      next.max_unclaimed != config_.max_unclaimed || next.http != config_.http) {
    LogEvent("needs a restart",
             {{"settings", "socket, group, max-running, max-unclaimed, log-size, [http]"}});
  }
  FunctionChanges changes = ChangedFunctions(config_, next);
  BROOD_RETURN_IF_ERROR(PutOwnTemplates(changes.put));
  const absl::Status put = PutTemplates(next.templates);
  if (put.ok()) {
    config_.tokens = next.tokens;
    SwitchFunctions(changes);
  } else {
    for (const ServeFunction& each : changes.put) RemoveOwnTemplate(each);
  }
  absl::Status changed = put.ok() ? RemoveTemplates(next.templates) : put;
  PublishTemplates();  // what has been changed, also when something was wrong
  return changed;
}

// Each under a new name: calls of the function as it was may still wait for the old one.
absl::Status ServedConfig::PutOwnTemplates(std::vector<ServeFunction>& functions) {
  ++reloads_;
  for (std::size_t i = 0; i < functions.size(); ++i) {
    if (!functions[i].own_template) continue;
    std::string& name = functions[i].own_template->name;
    name = functions[i].options.template_name = fmt::format("{}:{}", name, reloads_);
    const absl::Status put = pool_.PutTemplate(*functions[i].own_template);
    if (put.ok()) continue;
    for (std::size_t done = 0; done < i; ++done) RemoveOwnTemplate(functions[done]);
    return Error(put.code(), "function {}: {}", functions[i].options.name, Message(put));
  }
  return absl::OkStatus();
}

void ServedConfig::RemoveOwnTemplate(const ServeFunction& function) {
  if (!function.own_template) return;
  const absl::Status removed = pool_.RemoveTemplate(function.own_template->name);
  if (!removed.ok()) LogEvent("not removed", {{"why", std::string(Message(removed))}});
}

// All at once: no call meets half of a new configuration.
void ServedConfig::SwitchFunctions(const FunctionChanges& changes) {
  const auto gone = [this](const std::string& name) -> std::function<void()> {
    const auto old = std::find_if(config_.functions.begin(), config_.functions.end(),
                                  [&](const auto& each) { return each.options.name == name; });
    if (old == config_.functions.end()) return nullptr;
    return
        [this, function = *old] { jobs_.Add([this, function] { RemoveOwnTemplate(function); }); };
  };
  (void)RunInPool(pool_, [&] {
    if (router_ == nullptr) return absl::OkStatus();
    router_->SetTokens(config_.tokens);
    for (const std::string& name : changes.removed) router_->Remove(name, gone(name));
    for (const ServeFunction& each : changes.put) {
      router_->Put(each.options, gone(each.options.name));
    }
    return absl::OkStatus();
  });
  std::erase_if(config_.functions, [&](const ServeFunction& each) {
    const auto same = [&](const auto& name) { return name == each.options.name; };
    return std::any_of(changes.removed.begin(), changes.removed.end(), same) ||
           std::any_of(changes.put.begin(), changes.put.end(),
                       [&](const auto& put) { return same(put.options.name); });
  });
  config_.functions.insert(config_.functions.end(), changes.put.begin(), changes.put.end());
}

absl::Status ServedConfig::PutTemplates(const std::vector<ServeTemplate>& next) {
  std::vector<ServeTemplate>& current = config_.templates;
  for (const ServeTemplate& each : next) {
    const auto old = FindTemplate(current, each.options.name);
    if (old != current.end() && old->words == each.words && old->sources == each.sources) continue;
    BROOD_RETURN_IF_ERROR(pool_.PutTemplate(each.options));
    if (old != current.end()) {
      *old = each;
    } else {
      current.push_back(each);
    }
  }
  return absl::OkStatus();
}

absl::Status ServedConfig::RemoveTemplates(const std::vector<ServeTemplate>& next) {
  std::vector<ServeTemplate>& current = config_.templates;
  const std::vector<ServeTemplate> before = current;
  for (const ServeTemplate& each : before) {
    if (FindTemplate(next, each.options.name) != next.end()) continue;
    BROOD_RETURN_IF_ERROR(pool_.RemoveTemplate(each.options.name));
    current.erase(FindTemplate(current, each.options.name));
  }
  current = next;  // in the order of the file: the first is the default
  return absl::OkStatus();
}

}  // namespace brood
