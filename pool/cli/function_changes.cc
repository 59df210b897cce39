// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/function_changes.h"

#include <algorithm>

namespace brood {
namespace {

const ServeFunction* FindFunction(const ServeConfig& config, const std::string& name) {
  for (const ServeFunction& each : config.functions) {
    if (each.options.name == name) return &each;
  }
  return nullptr;
}

// The template that a function shares with others; null: it has its own.
const ServeTemplate* SharedTemplate(const ServeConfig& config, const ServeFunction& function) {
  if (function.own_template) return nullptr;
  for (const ServeTemplate& each : config.templates) {
    if (each.options.name == function.options.template_name) return &each;
  }
  return nullptr;
}

bool Same(const ServeConfig& now, const ServeFunction& a, const ServeConfig& next,
          const ServeFunction& b) {
  if (a.words != b.words || a.sources != b.sources) return false;
  const ServeTemplate* const before = SharedTemplate(now, a);
  const ServeTemplate* const after = SharedTemplate(next, b);
  if (before == nullptr || after == nullptr) return before == after;
  return before->words == after->words && before->sources == after->sources;
}

}  // namespace

FunctionChanges ChangedFunctions(const ServeConfig& now, const ServeConfig& next,
                                 const std::set<std::string>& renewed) {
  FunctionChanges changes;
  for (const ServeFunction& each : next.functions) {
    const ServeFunction* const old = FindFunction(now, each.options.name);
    if (old == nullptr || renewed.contains(each.options.name) || !Same(now, *old, next, each)) {
      changes.put.push_back(each);
    }
  }
  for (const ServeFunction& each : now.functions) {
    if (FindFunction(next, each.options.name) == nullptr) {
      changes.removed.push_back(each.options.name);
    }
  }
  return changes;
}

}  // namespace brood
