// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/served_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "pool/cli/serve_log.h"
#include "pool/core/run_in_pool.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::chrono::nanoseconds kReadyWithin = std::chrono::seconds(30);
constexpr auto kLookEvery = std::chrono::milliseconds(10);

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

void LogProblems(const ServeConfig& config) {
  for (const DeployProblem& each : config.problems) LogEvent("not deployed", {{"why", each.why}});
}

std::string ServedChanges::ToJson() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const auto put = [&](const char* kind, const Names& names) {
    const std::pair<const char*, const std::vector<std::string>&> all[] = {
        {"added", names.added}, {"changed", names.changed}, {"removed", names.removed}};
    json[kind] = nlohmann::ordered_json::object();
    for (const auto& [what, list] : all) {
      if (!list.empty()) json[kind][what] = list;
    }
  };
  put("functions", functions);
  put("templates", templates);
  return json.dump(2) + "\n";
}

absl::StatusOr<ServedChanges> ServedConfig::Change(ServeConfig next, const Manner& manner) {
  next.http.address = config_.http.address;
  next.http.port = config_.http.port;
  if (next.tokens == nullptr && config_.tokens != nullptr) {
    return InvalidError("[http] tokens is gone: without a restart the door is not opened");
  }
  next.http.tokens = config_.http.tokens;
  if (next.socket != config_.socket || next.group != config_.group ||
      next.max_running != config_.max_running || next.log_bytes != config_.log_bytes ||
      next.max_unclaimed != config_.max_unclaimed || next.http != config_.http ||
      next.deployed != config_.deployed) {
    LogEvent(
        "needs a restart",
        {{"settings", "socket, group, max-running, max-unclaimed, log-size, deployed, [http]"}});
  }
  LogProblems(next);
  FunctionChanges changes = ChangedFunctions(config_, next, manner.renewed);
  BROOD_RETURN_IF_ERROR(PutOwnTemplates(changes.put));
  const ServedChanges told = Compare(changes, next);
  const std::vector<ServeTemplate> before = config_.templates;
  absl::Status put = PutTemplates(next.templates);
  Prepared prepared;
  if (put.ok()) {
    prepared = Prepare(changes.put);
    if (manner.give_up) {
      put = AwaitReady(prepared, manner.give_up);
      // A template that has been replaced for them is made once more, as it was.
      if (!put.ok()) (void)PutTemplates(before);
    }
  }
  if (put.ok()) {
    config_.tokens = next.tokens;
    SwitchFunctions(changes, prepared);
  } else {
    (void)RunInPool(pool_, [&] {
      for (const auto& each : prepared) each->Close();
      prepared.clear();
      return absl::OkStatus();
    });
    for (const ServeFunction& each : changes.put) RemoveOwnTemplate(each);
  }
  absl::Status changed = put;
  if (put.ok()) {
    changed = RemoveTemplates(next.templates);
  } else if (manner.give_up) {
    (void)RemoveTemplates(before);
  }
  PublishTemplates();  // what has been changed, also when something was wrong
  if (!changed.ok()) return changed;
  return told;
}

ServedChanges ServedConfig::Compare(const FunctionChanges& changes, const ServeConfig& next) const {
  ServedChanges told;
  told.functions.removed = changes.removed;
  for (const ServeFunction& each : changes.put) {
    const bool there =
        std::any_of(config_.functions.begin(), config_.functions.end(),
                    [&](const auto& old) { return old.options.name == each.options.name; });
    (there ? told.functions.changed : told.functions.added).push_back(each.options.name);
  }
  for (const ServeTemplate& each : next.templates) {
    const auto old = FindTemplate(config_.templates, each.options.name);
    if (old == config_.templates.end()) {
      told.templates.added.push_back(each.options.name);
    } else if (old->words != each.words || old->sources != each.sources) {
      told.templates.changed.push_back(each.options.name);
    }
  }
  for (const ServeTemplate& each : config_.templates) {
    if (FindTemplate(next.templates, each.options.name) == next.templates.end()) {
      told.templates.removed.push_back(each.options.name);
    }
  }
  return told;
}

ServedConfig::Prepared ServedConfig::Prepare(const std::vector<ServeFunction>& functions) {
  Prepared prepared;
  (void)RunInPool(pool_, [&] {
    for (const ServeFunction& each : functions) prepared.push_back(router_.Prepare(each.options));
    return absl::OkStatus();
  });
  return prepared;
}

absl::Status ServedConfig::AwaitReady(const Prepared& prepared,
                                      const std::function<bool()>& give_up) {
  const std::int64_t deadline = NowNs() + kReadyWithin.count();
  for (;;) {
    std::string waits;
    const absl::Status well = RunInPool(pool_, [&] {
      for (const auto& each : prepared) {
        if (each->ready()) continue;
        waits = each->options().name;
        if (const std::string problem = each->problem(); !problem.empty()) {
          return Error(absl::StatusCode::kFailedPrecondition, "function {} does not come up: {}",
                       waits, problem);
        }
      }
      return absl::OkStatus();
    });
    if (!well.ok() || waits.empty()) return well;
    if (NowNs() >= deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded,
                   "function {} had nothing ready for a call within {} s", waits,
                   kReadyWithin / std::chrono::seconds(1));
    }
    if (give_up()) return Error(absl::StatusCode::kUnavailable, "the daemon has other orders");
    std::this_thread::sleep_for(kLookEvery);
  }
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
void ServedConfig::SwitchFunctions(const FunctionChanges& changes, const Prepared& prepared) {
  const auto gone = [this](const std::string& name) -> std::function<void()> {
    const auto old = std::find_if(config_.functions.begin(), config_.functions.end(),
                                  [&](const auto& each) { return each.options.name == name; });
    if (old == config_.functions.end()) return nullptr;
    return
        [this, function = *old] { jobs_.Add([this, function] { RemoveOwnTemplate(function); }); };
  };
  (void)RunInPool(pool_, [&] {
    router_.SetTokens(config_.tokens);
    for (const std::string& name : changes.removed) router_.Remove(name, gone(name));
    for (const auto& each : prepared) router_.Put(each, gone(each->options().name));
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
