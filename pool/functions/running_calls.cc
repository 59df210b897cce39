// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/running_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "spawn/base/clock.h"

namespace brood {
namespace {

constexpr std::size_t kLeastForgotten = 64;

}  // namespace

void RunningCalls::Started(const std::string& id, const std::shared_ptr<Exchange>& call) {
  if (call->over()) {
    entries_.erase(id);
  } else {
    entries_[id].call = call;
  }
}

void RunningCalls::Add(const RequestHead& head, std::string function) {
  if (entries_.size() >= forget_at_) Forget();
  entries_[head.id] = {.function = std::move(function),
                       .user = head.user,
                       .method = head.method,
                       .target = head.query.empty() ? head.path : head.path + "?" + head.query,
                       .since_ns = NowNs()};
}

void RunningCalls::Describe(CallReport& report) const {
  const auto found = entries_.find(report.id);
  if (report.id.empty() || found == entries_.end()) return;
  report.user = found->second.user;
  report.method = found->second.method;
  report.target = found->second.target;
}

// Looks at each once for as many as come: nobody has to tell that a call is over.
void RunningCalls::Forget() {
  std::erase_if(entries_, [](const auto& each) {
    const auto call = each.second.call.lock();
    return !call || call->over();
  });
  forget_at_ = std::max(kLeastForgotten, 2 * entries_.size());
}

RunningCalls::Entries::iterator RunningCalls::Find(std::string_view id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return found;
  const auto call = found->second.call.lock();
  return call && !call->over() ? found : entries_.end();
}

const std::string* RunningCalls::FunctionOf(std::string_view id) {
  const auto found = Find(id);
  return found == entries_.end() ? nullptr : &found->second.function;
}

bool RunningCalls::Kill(std::string_view id) {
  const auto found = Find(id);
  if (found == entries_.end()) return false;
  found->second.call.lock()->Kill();
  return true;
}

std::string RunningCalls::ToJson() {
  Forget();
  std::vector<const Entries::value_type*> all;
  for (const auto& each : entries_) all.push_back(&each);
  std::sort(all.begin(), all.end(),
            [](const auto* a, const auto* b) { return a->second.since_ns < b->second.since_ns; });
  auto list = nlohmann::ordered_json::array();
  const std::int64_t now = NowNs();
  for (const auto* each : all) {
    const Entry& entry = each->second;
    list.push_back({{"id", each->first},
                    {"function", entry.function},
                    {"request", entry.method + " " + entry.target},
                    {"seconds", static_cast<double>((now - entry.since_ns) / 1000) / 1e6}});
    if (!entry.user.empty()) list.back()["user"] = entry.user;
  }
  return list.dump(2) + "\n";
}

}  // namespace brood
