// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_log.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "spawn/base/clock.h"

namespace brood {
namespace {

constexpr std::size_t kMostPending = 1U << 20;  // bytes that wait for one who follows
constexpr std::int64_t kRateNs = 10'000'000'000;

std::string Line(const CallReport& report) {
  nlohmann::ordered_json line = {{"time", static_cast<double>(report.time_ms) / 1000},
                                 {"function", report.function}};
  const auto put = [&](const char* name, const std::string& value) {
    if (!value.empty()) line[name] = value;
  };
  put("id", report.id);
  put("user", report.user);
  if (!report.method.empty()) line["request"] = report.method + " " + report.target;
  if (!report.id.empty()) {
    line["status"] = report.status;
    line["total_us"] = report.total_us;
  }
  put("path", report.path);
  put("end", report.end);
  put("message", report.message);
  put("stderr", report.err);
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

// One who waits for what comes. Who reads more slowly than is written misses some, and is told so.
class CallLog::Follower : public Exchange {
 public:
  Follower(HttpConnection& connection, std::string function)
      : connection_(&connection), function_(std::move(function)) {}

  bool Wants(std::string_view function) const {
    return connection_ != nullptr && (function_.empty() || function_ == function);
  }
  void Put(std::string_view line) {
    if (pending_.size() + line.size() > kMostPending) {
      ++missed_;
    } else {
      pending_ += line;
    }
    OnDrained();
  }
  void End() {
    if (HttpConnection* const to = std::exchange(connection_, nullptr)) to->Finish({});
  }
  bool gone() const { return connection_ == nullptr; }

  void OnBody(std::string_view) override {}
  void OnBodyEnd() override {}
  bool full() const override { return false; }
  void OnDrained() override {
    if (connection_ == nullptr || connection_->congested()) return;
    if (missed_ > 0) {
      const nlohmann::ordered_json missed = {{"missed", std::exchange(missed_, 0)}};
      pending_ += missed.dump() + "\n";
    }
    const std::string lines = std::exchange(pending_, {});
    if (!lines.empty()) connection_->Write(lines);
  }
  void OnGone() override { connection_ = nullptr; }
  void Kill() override { End(); }
  bool over() const override { return gone(); }

 private:
  HttpConnection* connection_;
  const std::string function_;
  std::string pending_;     // while the connection is congested
  std::size_t missed_ = 0;  // reports, behind those
};

const CallReport& CallLog::Add(CallReport report) {
  report.time_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  running_.Describe(report);
  Function& function = functions_[report.function];
  const bool ran = !report.path.empty();
  if (ran) {
    const Time time{NowNs(), report.total_us};
    if (function.times.size() < kTimes) {
      function.times.push_back(time);
    } else {
      function.times[function.next_time++ % kTimes] = time;
    }
  }
  if (!report.end.empty() && report.end != "refused") function.last_error = report;
  function.error_bytes += report.err.size();
  function.reports.push_back(std::move(report));
  while (function.reports.size() > kReports ||
         (function.error_bytes > kErrorBytes && function.reports.size() > 1)) {
    function.error_bytes -= function.reports.front().err.size();
    function.reports.pop_front();
  }
  const CallReport& kept = function.reports.back();
  if (followers_.empty()) return kept;
  const std::string line = Line(kept);
  const auto followers = followers_;
  for (const auto& each : followers) {
    const auto follower = each.lock();
    if (follower && follower->Wants(kept.function)) follower->Put(line);
  }
  std::erase_if(followers_, [](const auto& each) {
    const auto follower = each.lock();
    return !follower || follower->gone();
  });
  return kept;
}

std::shared_ptr<Exchange> CallLog::Tell(HttpConnection& connection, std::string function,
                                        bool follow) {
  std::vector<const CallReport*> reports;
  for (const auto& [name, each] : functions_) {
    if (!function.empty() && name != function) continue;
    for (const CallReport& report : each.reports) reports.push_back(&report);
  }
  std::stable_sort(reports.begin(), reports.end(),
                   [](const auto* a, const auto* b) { return a->time_ms < b->time_ms; });
  std::string text;
  for (const CallReport* const report : reports) text += Line(*report);
  Fields fields = {{"Content-Type", "application/x-ndjson"}};
  if (!follow) {
    connection.Answer(200, std::move(fields), text);
    return nullptr;
  }
  const auto follower = std::make_shared<Follower>(connection, std::move(function));
  followers_.push_back(follower);
  connection.Begin(200, std::move(fields), std::nullopt);
  connection.Write(text);
  return follower;
}

void CallLog::Close() {
  for (const auto& each : std::exchange(followers_, {})) {
    if (const auto follower = each.lock()) follower->End();
  }
}

CallLog::Recent CallLog::Of(std::string_view name) const {
  Recent recent;
  const auto found = functions_.find(name);
  if (found == functions_.end()) return recent;
  const Function& function = found->second;
  if (function.last_error) recent.last_error = &*function.last_error;
  if (function.times.empty()) return recent;
  const std::int64_t now = NowNs();
  std::int64_t oldest = now;
  std::size_t lately = 0;
  std::vector<std::int64_t> took;
  took.reserve(function.times.size());
  for (const Time& time : function.times) {
    took.push_back(time.total_us);
    oldest = std::min(oldest, time.ended_ns);
    if (now - time.ended_ns < kRateNs) ++lately;
  }
  // Where the ring has turned within the time, it tells of less.
  const bool turned = function.times.size() == kTimes && now - oldest < kRateNs;
  const std::int64_t span = turned ? std::max<std::int64_t>(now - oldest, 1) : kRateNs;
  recent.per_second = static_cast<double>(lately) * 1e9 / static_cast<double>(span);
  const auto percentile = [&](std::size_t percent) {
    const auto at = took.begin() + static_cast<std::ptrdiff_t>((took.size() - 1) * percent / 100);
    std::nth_element(took.begin(), at, took.end());
    return *at;
  };
  recent.p50_us = percentile(50);
  recent.p99_us = percentile(99);
  return recent;
}

}  // namespace brood
